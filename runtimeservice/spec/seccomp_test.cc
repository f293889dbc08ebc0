#include "runtimeservice/spec/seccomp.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <thread>

#include "base/files.h"
#include "base/strings.h"

namespace runtimeservice {
namespace {

using base::OrderedJson;
using ::testing::HasSubstr;

// The machine the tests run on: filters are loaded for real.
SeccompTarget Here(Capabilities capabilities = {}) {
  const absl::StatusOr<HostFacts> facts = GatherHostFacts();
  EXPECT_TRUE(facts.ok());
  return {std::move(capabilities), facts->architecture, facts->kernel};
}

absl::StatusOr<OrderedJson> Expand(const std::string& text, const SeccompTarget& target) {
  absl::StatusOr<base::Json> profile = base::ParseJson(text);
  EXPECT_TRUE(profile.ok()) << profile.status();
  return ExpandSeccompProfile(*profile, target);
}

// The errno that `call` ends with on a thread of its own under the compiled `profile`; 0 when it
// works, -1 when the filter cannot be loaded.
int ErrnoUnder(const OrderedJson& profile, const std::function<long()>& call) {
  absl::StatusOr<std::string> bpf = CompileSeccomp(profile);
  if (!bpf.ok()) {
    ADD_FAILURE() << bpf.status();
    return -1;
  }
  int result = -1;
  std::thread([&] {
    sock_fprog program = {static_cast<unsigned short>(bpf->size() / sizeof(sock_filter)),
                          reinterpret_cast<sock_filter*>(bpf->data())};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) != 0) {
      return;
    }
    errno = 0;
    result = call() < 0 ? errno : 0;
  }).join();
  return result;
}

long Socket(int family, int protocol = 0) {
  const int fd = socket(family, SOCK_DGRAM, protocol);
  if (fd >= 0) {
    close(fd);
  }
  return fd;
}

TEST(DefaultSeccompTest, OrdinaryCallsWork) {
  const OrderedJson profile = DefaultSeccompProfile(Here());
  EXPECT_EQ(ErrnoUnder(profile, [] { return syscall(SYS_getpid); }), 0);
  EXPECT_EQ(ErrnoUnder(profile, [] { return Socket(AF_INET); }), 0);
  EXPECT_EQ(ErrnoUnder(profile, [] { return Socket(AF_UNIX); }), 0);
}

TEST(DefaultSeccompTest, DangerousCallsFail) {
  const OrderedJson profile = DefaultSeccompProfile(Here());
  EXPECT_EQ(ErrnoUnder(profile, [] { return Socket(AF_VSOCK); }), EPERM);
  EXPECT_EQ(ErrnoUnder(profile, [] { return Socket(AF_NETLINK, 9); }), EINVAL);
  EXPECT_EQ(ErrnoUnder(profile, [] { return syscall(SYS_swapoff, nullptr); }), EPERM);
  EXPECT_EQ(ErrnoUnder(profile, [] { return syscall(SYS_bpf, 0, nullptr, 0); }), EPERM);
  EXPECT_EQ(ErrnoUnder(profile, [] { return syscall(SYS_clone3, nullptr, 0); }), ENOSYS);
  EXPECT_EQ(ErrnoUnder(profile, [] { return syscall(SYS_personality, 0x0400000); }), ENOSYS);
  EXPECT_EQ(ErrnoUnder(profile, [] { return syscall(SYS_unshare, 0x10000000); }), ENOSYS);
  // A new user namespace by clone, told apart by its flags.
  EXPECT_EQ(ErrnoUnder(profile, [] { return syscall(SYS_clone, 0x10000011, 0, 0, 0, 0); }), EPERM);
}

TEST(DefaultSeccompTest, CallsNewerThanTheTableLookAbsent) {
  EXPECT_EQ(ErrnoUnder(DefaultSeccompProfile(Here()), [] { return syscall(900); }), ENOSYS);
}

TEST(DefaultSeccompTest, RulesDependOnTheBoundingSet) {
  const OrderedJson plain = DefaultSeccompProfile(Here());
  const OrderedJson admin = DefaultSeccompProfile(Here({"CAP_SYS_ADMIN", "CAP_SYS_CHROOT"}));
  const auto chroot_nowhere = [] { return static_cast<long>(chroot("/does/not/exist")); };
  EXPECT_EQ(ErrnoUnder(plain, chroot_nowhere), EPERM);
  EXPECT_EQ(ErrnoUnder(admin, chroot_nowhere), ENOENT);
  const auto set_hostname = [] { return syscall(SYS_sethostname, nullptr, -1); };
  EXPECT_EQ(ErrnoUnder(plain, set_hostname), EPERM);
  EXPECT_EQ(ErrnoUnder(admin, set_hostname), EINVAL);
}

TEST(DefaultSeccompTest, RulesDependOnTheArchitecture) {
  const std::string arm = base::DumpJson(DefaultSeccompProfile({{}, "arm64", {6, 1}}));
  EXPECT_THAT(arm, HasSubstr("SCMP_ARCH_AARCH64"));
  EXPECT_THAT(arm, HasSubstr("cacheflush"));
  const std::string amd = base::DumpJson(DefaultSeccompProfile({{}, "amd64", {6, 1}}));
  EXPECT_THAT(amd, HasSubstr("SCMP_ARCH_X32"));
  EXPECT_THAT(amd, ::testing::Not(HasSubstr("cacheflush")));
  const std::string s390 = base::DumpJson(DefaultSeccompProfile({{}, "s390x", {6, 1}}));
  EXPECT_THAT(s390, HasSubstr(R"("args":[{"index":1,"value":2114060288,"valueTwo":0)"));
}

TEST(SeccompProfileTest, PlainProfileIsKeptAndDenies) {
  const absl::StatusOr<OrderedJson> profile = Expand(
      R"({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
           {"names": ["chmod", "fchmodat", "no_such_call"], "action": "SCMP_ACT_ERRNO"},
           {"names": ["getppid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 7}]})",
      Here());
  ASSERT_TRUE(profile.ok()) << profile.status();
  EXPECT_EQ(ErrnoUnder(*profile, [] { return syscall(SYS_fchmodat, AT_FDCWD, "/nowhere", 0); }),
            EPERM);
  EXPECT_EQ(ErrnoUnder(*profile, [] { return syscall(SYS_getppid); }), 7);
}

TEST(SeccompProfileTest, ConditionsChooseRules) {
  const std::string text = R"({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
      {"name": "a", "action": "SCMP_ACT_ERRNO", "includes": {"caps": ["CAP_KILL", "CAP_CHOWN"]}},
      {"name": "b", "action": "SCMP_ACT_ERRNO", "excludes": {"caps": ["CAP_KILL", "CAP_BPF"]}},
      {"name": "c", "action": "SCMP_ACT_ERRNO", "includes": {"arches": ["arm64"]}},
      {"name": "d", "action": "SCMP_ACT_ERRNO", "excludes": {"arches": ["arm64"]}},
      {"name": "e", "action": "SCMP_ACT_ERRNO", "includes": {"minKernel": "5.10"}}]})";
  const auto names = [&](const SeccompTarget& target) {
    const OrderedJson profile = *Expand(text, target);
    std::string result;
    for (const OrderedJson& rule : profile["syscalls"]) {
      result += rule["names"][0].get<std::string>();
    }
    return result;
  };
  EXPECT_EQ(names({{"CAP_KILL", "CAP_CHOWN"}, "amd64", {6, 1}}), "ade");
  EXPECT_EQ(names({{"CAP_KILL"}, "arm64", {5, 9}}), "c");
  EXPECT_EQ(names({{}, "amd64", {5, 10}}), "bde");
}

TEST(SeccompProfileTest, ArchMapGivesTheNativeEntry) {
  const std::string text = R"({"defaultAction": "SCMP_ACT_ALLOW", "archMap": [
      {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]},
      {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]}]})";
  EXPECT_EQ((*Expand(text, {{}, "arm64", {6, 1}}))["architectures"],
            OrderedJson::parse(R"(["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"])"));
}

TEST(SeccompProfileTest, ErrnoNamesAreUnderstood) {
  const absl::StatusOr<OrderedJson> profile = Expand(
      R"({"defaultAction": "SCMP_ACT_ALLOW", "defaultErrno": "ENOSYS", "syscalls": [
           {"names": ["getppid"], "action": "SCMP_ACT_ERRNO", "errno": "EXDEV"}]})",
      Here());
  ASSERT_TRUE(profile.ok()) << profile.status();
  EXPECT_EQ((*profile)["defaultErrnoRet"], ENOSYS);
  EXPECT_EQ(ErrnoUnder(*profile, [] { return syscall(SYS_getppid); }), EXDEV);
}

TEST(SeccompProfileTest, TwoConditionsOnOneArgumentMeanOr) {
  const absl::StatusOr<OrderedJson> profile = Expand(
      R"({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
           {"names": ["socket"], "action": "SCMP_ACT_ERRNO", "args": [
             {"index": 0, "value": 1, "op": "SCMP_CMP_EQ"},
             {"index": 0, "value": 2, "op": "SCMP_CMP_EQ"}]}]})",
      Here());
  ASSERT_TRUE(profile.ok()) << profile.status();
  EXPECT_EQ((*profile)["syscalls"].size(), 2);
  EXPECT_EQ(ErrnoUnder(*profile, [] { return Socket(1); }), EPERM);
  EXPECT_EQ(ErrnoUnder(*profile, [] { return Socket(2); }), EPERM);
}

TEST(SeccompProfileTest, NotifyIsLeftToTheRuntime) {
  const absl::StatusOr<OrderedJson> profile =
      Expand(R"({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/listener", "syscalls": [
                  {"names": ["chmod"], "action": "SCMP_ACT_NOTIFY"}]})",
             Here());
  ASSERT_TRUE(profile.ok()) << profile.status();
  EXPECT_EQ((*profile)["listenerPath"], "/run/listener");
  EXPECT_EQ(*CompileSeccomp(*profile), "");
}

TEST(SeccompProfileTest, MalformedProfilesAreRefused) {
  const char* const kBad[] = {
      "[]",
      "{}",
      R"({"defaultAction": 1})",
      R"({"defaultAction": "SCMP_ACT_PERMIT"})",
      R"({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": {}})",
      R"({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [1]})",
      R"({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"action": "SCMP_ACT_ERRNO"}]})",
      R"({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["a"]}]})",
      R"({"defaultAction": "SCMP_ACT_ALLOW", "flags": ["NO_SUCH"]})",
      R"({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["VAX"]})",
      R"({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86"],
          "archMap": [{"architecture": "SCMP_ARCH_X86_64"}]})",
      R"({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
          {"names": ["a"], "action": "SCMP_ACT_ERRNO", "errno": "ENONSENSE"}]})",
      R"({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
          {"names": ["a"], "name": "b", "action": "SCMP_ACT_ERRNO"}]})",
      R"({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
          {"names": ["a"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 6, "op": "SCMP_CMP_EQ"}]}]})",
      R"({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
          {"names": ["a"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 0, "value": -1, "op": "SCMP_CMP_EQ"}]}]})",
      R"({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
          {"names": ["a"], "action": "SCMP_ACT_ERRNO", "includes": {"minKernel": "new"}}]})",
  };
  for (const char* text : kBad) {
    EXPECT_TRUE(absl::IsInvalidArgument(Expand(text, Here()).status())) << text;
  }
}

class SeccompFiltersTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/crisp-seccomp-XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    folder_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  void UseLocalhost(const std::string& text) {
    ASSERT_TRUE(
        base::ReplaceFile(folder_ + "/profile.json", text, 0600, base::Durability::kVolatile).ok());
    UseLocalhostPath(folder_ + "/profile.json");
  }
  void UseLocalhostPath(const std::string& path) {
    security_.mutable_seccomp()->set_profile_type(cri::SecurityProfile::Localhost);
    security_.mutable_seccomp()->set_localhost_ref(path);
  }
  void ExpectRefused(const std::string& text) {
    const absl::Status status = filters_.Get(security_, {}).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    EXPECT_THAT(std::string(status.message()),
                HasSubstr("linux.security_context.seccomp.localhost_ref"));
    EXPECT_THAT(std::string(status.message()), HasSubstr(text));
  }

  std::string folder_;
  cri::LinuxContainerSecurityContext security_;
  SeccompFilters filters_{*GatherHostFacts()};
};

TEST_F(SeccompFiltersTest, UnsetUnconfinedAndPrivilegedHaveNoFilter) {
  EXPECT_TRUE((*filters_.Get(security_, {}))->profile.is_null());
  security_.mutable_seccomp()->set_profile_type(cri::SecurityProfile::Unconfined);
  EXPECT_TRUE((*filters_.Get(security_, {}))->profile.is_null());
  security_.mutable_seccomp()->set_profile_type(cri::SecurityProfile::RuntimeDefault);
  security_.set_privileged(true);
  EXPECT_TRUE((*filters_.Get(security_, {}))->profile.is_null());
}

TEST_F(SeccompFiltersTest, TheSameRulesAreCompiledOnce) {
  security_.mutable_seccomp()->set_profile_type(cri::SecurityProfile::RuntimeDefault);
  const auto first = *filters_.Get(security_, {"CAP_CHOWN"});
  EXPECT_FALSE(first->bpf_base64.empty());
  EXPECT_EQ(first, *filters_.Get(security_, {"CAP_CHOWN"}));
  // Other capabilities, same rules; and other rules.
  EXPECT_EQ(first, *filters_.Get(security_, {"CAP_KILL"}));
  EXPECT_NE(first, *filters_.Get(security_, {"CAP_SYS_ADMIN"}));
}

TEST_F(SeccompFiltersTest, ThreadsShareOneFilter) {
  security_.mutable_seccomp()->set_profile_type(cri::SecurityProfile::RuntimeDefault);
  std::vector<std::shared_ptr<const SeccompFilter>> filters(8);
  std::vector<std::thread> threads;
  for (auto& filter : filters) {
    threads.emplace_back([this, &filter] { filter = *filters_.Get(security_, {}); });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  for (const auto& filter : filters) {
    EXPECT_EQ(filter, filters.front());
  }
}

TEST_F(SeccompFiltersTest, AChangedProfileFileIsSeen) {
  UseLocalhost(R"({"defaultAction": "SCMP_ACT_ALLOW"})");
  const auto first = *filters_.Get(security_, {});
  UseLocalhost(R"({"defaultAction": "SCMP_ACT_LOG"})");
  EXPECT_EQ((*filters_.Get(security_, {}))->profile["defaultAction"], "SCMP_ACT_LOG");
  UseLocalhost(R"({"defaultAction": "SCMP_ACT_ALLOW"})");
  EXPECT_EQ(*filters_.Get(security_, {}), first);
}

TEST_F(SeccompFiltersTest, ManyProfilesDoNotPileUp) {
  for (int i = 0; i < 200; ++i) {
    UseLocalhost(
        base::StrCat(R"({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"name": "getppid",
                                  "action": "SCMP_ACT_ERRNO", "errnoRet": )",
                     i, "}]}"));
    ASSERT_TRUE(filters_.Get(security_, {}).ok());
  }
}

TEST_F(SeccompFiltersTest, BadFilesAreRefusedByName) {
  UseLocalhostPath("relative.json");
  ExpectRefused("absolute");
  UseLocalhostPath(folder_ + "/missing.json");
  ExpectRefused("missing.json");
  UseLocalhostPath(folder_);
  ExpectRefused(folder_);
  UseLocalhost("not json");
  ExpectRefused("profile.json");
  UseLocalhost("{}");
  ExpectRefused("defaultAction");
  ASSERT_EQ(mkfifo((folder_ + "/pipe").c_str(), 0600), 0);
  UseLocalhostPath(folder_ + "/pipe");
  ExpectRefused("pipe");
}

TEST_F(SeccompFiltersTest, TheConfiguredFileIsRuntimeDefault) {
  UseLocalhost(R"({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["getppid"],
                   "action": "SCMP_ACT_ERRNO", "excludes": {"caps": ["CAP_SYS_ADMIN"]}}]})");
  ASSERT_TRUE(filters_.SetDefault(folder_ + "/profile.json").ok());
  std::filesystem::remove(folder_ + "/profile.json");  // Read once, at the start.
  security_.mutable_seccomp()->set_profile_type(cri::SecurityProfile::RuntimeDefault);
  const auto filter = *filters_.Get(security_, {"CAP_CHOWN"});
  EXPECT_EQ(filter->profile["defaultAction"], "SCMP_ACT_ALLOW");
  EXPECT_EQ(filter->profile["syscalls"].size(), 1u);
  EXPECT_EQ((*filters_.Get(security_, {"CAP_SYS_ADMIN"}))->profile["syscalls"].size(), 0u);
}

TEST_F(SeccompFiltersTest, AConfiguredFileThatCannotBeUsedIsRefused) {
  absl::Status status = filters_.SetDefault(folder_ + "/missing.json");
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("missing.json"));
  UseLocalhost(R"({"defaultAction": "SCMP_ACT_NO_SUCH"})");
  status = filters_.SetDefault(folder_ + "/profile.json");
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("SCMP_ACT_NO_SUCH"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("profile.json"));
}

TEST_F(SeccompFiltersTest, TheDeprecatedPathCountsWhereTheProfileIsUnset) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
  security_.set_seccomp_profile_path("runtime/default");
  EXPECT_FALSE((*filters_.Get(security_, {}))->bpf_base64.empty());
  UseLocalhost(R"({"defaultAction": "SCMP_ACT_LOG"})");
  security_.set_seccomp_profile_path("localhost/" + folder_ + "/missing.json");
  EXPECT_EQ((*filters_.Get(security_, {}))->profile["defaultAction"], "SCMP_ACT_LOG");
  security_.clear_seccomp();
  const absl::Status missing = filters_.Get(security_, {}).status();
  EXPECT_TRUE(absl::IsInvalidArgument(missing)) << missing;
  EXPECT_THAT(std::string(missing.message()),
              HasSubstr("linux.security_context.seccomp_profile_path: "));
  security_.set_seccomp_profile_path("localhost/" + folder_ + "/profile.json");
  EXPECT_EQ((*filters_.Get(security_, {}))->profile["defaultAction"], "SCMP_ACT_LOG");
#pragma GCC diagnostic pop
}

}  // namespace
}  // namespace runtimeservice
