// Who a container's process is and what it may: users, capabilities, seccomp, hidden paths;
// each with what is refused for it.
#include <map>

#include "base/files.h"
#include "base/strings.h"
#include "test/integration/security_fixture.h"

namespace test {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

class SecurityLifeTest : public SecurityTest, public testing::WithParamInterface<std::string> {
 protected:
  SecurityLifeTest() : SecurityTest(GetParam()) {}
};
INSTANTIATE_TEST_SUITE_P(Runtimes, SecurityLifeTest, testing::Values("crun", "runc"));

TEST_P(SecurityLifeTest, UsersAndGroupsAreTheRequests) {
  ASSERT_OK(Pull(kBusybox));
  ASSERT_OK_AND_ASSIGN(const std::string pod, RunPod("pod"));
  const auto user = [&](const char* name, const Change& change, const std::string& expected,
                        const std::vector<int64_t>& groups) {
    ASSERT_OK_AND_ASSIGN(const std::string container, Run(pod, name, change));
    EXPECT_EQ(Output(container, "echo $(id -u):$(id -g):$(id -G)"), expected + "\n") << name;
    ASSERT_OK_AND_ASSIGN(const cri::ContainerStatus status, Status(container));
    const cri::LinuxContainerUser& linux_user = status.user().linux();
    EXPECT_EQ(base::StrCat(linux_user.uid(), ":", linux_user.gid()),
              expected.substr(0, expected.rfind(':')));
    EXPECT_THAT(linux_user.supplemental_groups(), testing::ElementsAreArray(groups)) << name;
    EXPECT_TRUE(FirstProcessHas("pod", name,
                                base::StrCat("Uid:\t", linux_user.uid(), "\t", linux_user.uid(),
                                             "\t", linux_user.uid(), "\t", linux_user.uid())));
  };
  user("root", [](Security*) {}, "0:0:0", {0});
  user("merge",
       [](Security* s) {
         s->mutable_run_as_user()->set_value(1000);
         s->add_supplemental_groups(1234);
       },
       "1000:1000:1000 1234 50000", {1000, 1234, 50000});
  user("strict",
       [](Security* s) {
         s->mutable_run_as_user()->set_value(1000);
         s->add_supplemental_groups(1234);
         s->set_supplemental_groups_policy(cri::Strict);
       },
       "1000:1000:1000 1234", {1000, 1234});
  user("byname",
       [](Security* s) {
         s->set_run_as_username("www-data");
         s->mutable_run_as_group()->set_value(77);
       },
       "33:77:77", {77});
  user("unlisted", [](Security* s) { s->mutable_run_as_user()->set_value(2147483647); },
       "2147483647:0:0", {0});
}

TEST_P(SecurityLifeTest, CapabilitiesAreTheRequests) {
  ASSERT_OK(Pull(kBusybox));
  ASSERT_OK_AND_ASSIGN(const std::string pod, RunPod("pod"));
  const auto held = [&](const char* name, const Change& change,
                        const std::map<std::string, std::string>& lines) {
    ASSERT_OK_AND_ASSIGN(const std::string container, Run(pod, name, change));
    for (const auto& [line, value] : lines) {
      EXPECT_EQ(StatusLine(container, line), value + "\n") << name << " " << line;
      EXPECT_TRUE(FirstProcessHas("pod", name, base::StrCat(line, ":\t", value))) << line;
    }
  };
  held("default", [](Security*) {},
       {{"CapBnd", "00000000000005fb"},
        {"CapEff", "00000000000005fb"},
        {"CapInh", "0000000000000000"},
        {"CapAmb", "0000000000000000"}});
  held("one",
       [](Security* s) {
         s->mutable_capabilities()->add_drop_capabilities("all");
         s->mutable_capabilities()->add_add_capabilities("net_raw");
         s->mutable_capabilities()->add_add_capabilities("KILL");
         s->mutable_capabilities()->add_drop_capabilities("CAP_KILL");
       },
       {{"CapBnd", "0000000000002000"}, {"CapPrm", "0000000000002000"}});
  held("none", [](Security* s) { s->mutable_capabilities()->add_drop_capabilities("ALL"); },
       {{"CapBnd", "0000000000000000"}, {"CapEff", "0000000000000000"}});
  // A user that is not root keeps only what is ambient.
  held("ambient",
       [](Security* s) {
         s->mutable_run_as_user()->set_value(1000);
         s->mutable_capabilities()->add_add_ambient_capabilities("NET_BIND_SERVICE");
       },
       {{"CapBnd", "00000000000005fb"},
        {"CapEff", "0000000000000400"},
        {"CapAmb", "0000000000000400"},
        {"CapInh", "0000000000000400"}});
  held("user", [](Security* s) { s->mutable_run_as_user()->set_value(1000); },
       {{"CapEff", "0000000000000000"}, {"CapAmb", "0000000000000000"}});
}

TEST_P(SecurityLifeTest, PrivilegedHoldsWhatTheDaemonHolds) {
  ASSERT_OK(Pull(kBusybox));
  ASSERT_OK_AND_ASSIGN(const std::string pod, RunPrivilegedPod("pod"));
  ASSERT_OK_AND_ASSIGN(const std::string container, Run(pod, "c", [](Security* s) {
                         s->set_privileged(true);
                         s->mutable_seccomp()->set_profile_type(Profile::RuntimeDefault);
                         s->add_masked_paths("/etc/passwd");
                         s->add_readonly_paths("/etc");
                       }));
  ASSERT_OK_AND_ASSIGN(
      const std::string own,
      RunProgram({"grep", "^CapEff", base::StrCat("/proc/", daemon().pid(), "/status")}));
  EXPECT_EQ(base::StrCat("CapEff:\t", StatusLine(container, "CapEff")), own);
  EXPECT_EQ(StatusLine(container, "Seccomp"), "0\n");
  EXPECT_THAT(Output(container, "grep root /etc/passwd"), HasSubstr("root:x:0:0"));
  EXPECT_EQ(Output(container, "touch /etc/new && echo made"), "made\n");
  EXPECT_THAT(Output(container, "grep ' /sys ' /proc/mounts"), HasSubstr("sysfs rw,"));
}

TEST_P(SecurityLifeTest, PathsAreHiddenAndReadOnlyAsSent) {
  ASSERT_OK(Pull(kBusybox));
  ASSERT_OK_AND_ASSIGN(const std::string pod, RunPod("pod"));
  ASSERT_OK_AND_ASSIGN(const std::string hidden, Run(pod, "hidden", [](Security* s) {
                         // AppArmor would deny it before the mount does.
                         s->mutable_apparmor()->set_profile_type(Profile::Unconfined);
                         for (const char* path : {"/etc/passwd", "/proc/acpi", "/no/such"}) {
                           s->add_masked_paths(path);
                         }
                         for (const char* path : {"/tmp", "/proc/sys", "/no/such"}) {
                           s->add_readonly_paths(path);
                         }
                       }));
  EXPECT_EQ(Output(hidden, "wc -c </etc/passwd"), "0\n");
  EXPECT_EQ(Output(hidden, "ls /proc/acpi"), "");
  EXPECT_THAT(Output(hidden, "touch /tmp/x"), HasSubstr("Read-only file system"));
  EXPECT_THAT(Output(hidden, "echo 1 >/proc/sys/kernel/shm_rmid_forced"),
              HasSubstr("Read-only file system"));
  // An unmasked proc: the lists are empty. The network namespace is the pod's own.
  ASSERT_OK_AND_ASSIGN(const std::string open, Run(pod, "open", [](Security* s) {
                         s->mutable_apparmor()->set_profile_type(Profile::Unconfined);
                         s->mutable_capabilities()->add_add_capabilities("NET_ADMIN");
                       }));
  EXPECT_EQ(Output(open, "echo 1 >/proc/sys/net/ipv4/ip_forward && touch /tmp/x && echo done"),
            "done\n");
  EXPECT_THAT(Output(open, "cat /etc/passwd"), HasSubstr("root:x:0:0"));
}

TEST_P(SecurityLifeTest, RootIsReadOnlyAndNothingGainsPrivilegesWhenAsked) {
  ASSERT_OK(Pull(kBusybox));
  ASSERT_OK_AND_ASSIGN(const std::string pod, RunPod("pod"));
  ASSERT_OK_AND_ASSIGN(const std::string bound, Run(pod, "bound", [](Security* s) {
                         s->set_readonly_rootfs(true);
                         s->set_no_new_privs(true);
                       }));
  EXPECT_THAT(Output(bound, "touch /x"), HasSubstr("Read-only file system"));
  EXPECT_THAT(Output(bound, "echo x >>/etc/hosts"), HasSubstr("Read-only file system"));
  EXPECT_EQ(Output(bound, "touch /dev/shm/x /dev/x && echo made"), "made\n");
  EXPECT_EQ(StatusLine(bound, "NoNewPrivs"), "1\n");
  ASSERT_OK_AND_ASSIGN(const std::string free, Run(pod, "free", [](Security*) {}));
  EXPECT_EQ(Output(free, "touch /x && echo x >>/etc/hosts && echo made"), "made\n");
  EXPECT_EQ(StatusLine(free, "NoNewPrivs"), "0\n");
}

TEST_P(SecurityLifeTest, SeccompIsTheRequests) {
  ASSERT_OK(Pull(kBusybox));
  ASSERT_OK_AND_ASSIGN(const std::string pod, RunPod("pod"));
  const std::string path = environment().Get("RUN") + "/profile.json";
  ASSERT_OK(base::ReplaceFile(path,
                              R"({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{
                                  "names": ["chmod", "fchmodat", "fchmodat2"],
                                  "action": "SCMP_ACT_ERRNO"}]})",
                              0600, base::Durability::kVolatile));
  ASSERT_OK_AND_ASSIGN(const std::string unset, Run(pod, "unset", [](Security*) {}));
  EXPECT_EQ(StatusLine(unset, "Seccomp"), "0\n");
  ASSERT_OK_AND_ASSIGN(const std::string unconfined, Run(pod, "unconfined", [](Security* s) {
                         s->mutable_seccomp()->set_profile_type(Profile::Unconfined);
                       }));
  EXPECT_EQ(StatusLine(unconfined, "Seccomp"), "0\n");
  ASSERT_OK_AND_ASSIGN(const std::string standard, Run(pod, "default", [](Security* s) {
                         s->mutable_seccomp()->set_profile_type(Profile::RuntimeDefault);
                       }));
  EXPECT_EQ(StatusLine(standard, "Seccomp"), "2\n");
  EXPECT_THAT(Output(standard, "unshare -m true"), HasSubstr("Function not implemented"));
  EXPECT_EQ(Output(standard, "chmod 600 /etc/group && echo done"), "done\n");
  ASSERT_OK_AND_ASSIGN(const std::string own, Run(pod, "own", [&](Security* s) {
                         s->mutable_seccomp()->set_profile_type(Profile::Localhost);
                         s->mutable_seccomp()->set_localhost_ref(path);
                       }));
  EXPECT_THAT(Output(own, "chmod 600 /etc/group"), HasSubstr("Operation not permitted"));
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
  ASSERT_OK_AND_ASSIGN(const std::string old, Run(pod, "old", [&](Security* s) {
                         s->set_seccomp_profile_path("localhost/" + path);
                       }));
#pragma GCC diagnostic pop
  EXPECT_THAT(Output(old, "chmod 600 /etc/group"), HasSubstr("Operation not permitted"));
}

TEST_F(SecurityTest, WhatCannotBeHadIsRefusedByItsField) {
  ASSERT_OK(Pull(kBusybox));
  ASSERT_OK_AND_ASSIGN(const std::string pod, RunPod("pod"));
  const std::string file = environment().Get("RUN") + "/bad.json";
  ASSERT_OK(base::ReplaceFile(file, "{\"defaultAction\": 1}", 0600, base::Durability::kVolatile));
  const auto seccomp = [](const std::string& path) {
    return [path](Security* s) {
      s->mutable_seccomp()->set_profile_type(Profile::Localhost);
      s->mutable_seccomp()->set_localhost_ref(path);
    };
  };
  const auto refused = [&](const char* field, const Change& change) {
    ExpectRefused(pod, kInvalid, field, change);
  };
  refused("seccomp.localhost_ref", seccomp("relative.json"));
  refused("seccomp.localhost_ref", seccomp("/no/such/profile.json"));
  refused("seccomp.localhost_ref", seccomp(file));
  refused("seccomp.localhost_ref", seccomp(""));
  refused("seccomp.profile_type", [](Security* s) {
    s->mutable_seccomp()->set_profile_type(static_cast<Profile::ProfileType>(9));
  });
  refused("run_as_user", [](Security* s) { s->mutable_run_as_user()->set_value(-1); });
  refused("run_as_user", [](Security* s) { s->mutable_run_as_user()->set_value(4294967295); });
  refused("run_as_group", [](Security* s) { s->mutable_run_as_group()->set_value(1); });
  refused("run_as_username", [](Security* s) { s->set_run_as_username("nobody-of-this-name"); });
  refused("supplemental_groups[0]", [](Security* s) { s->add_supplemental_groups(1ll << 32); });
  refused("supplemental_groups_policy", [](Security* s) {
    s->set_supplemental_groups_policy(static_cast<cri::SupplementalGroupsPolicy>(9));
  });
  refused("capabilities.add_capabilities[0]",
          [](Security* s) { s->mutable_capabilities()->add_add_capabilities("NO_SUCH"); });
  refused("capabilities.drop_capabilities[0]",
          [](Security* s) { s->mutable_capabilities()->add_drop_capabilities(""); });
  refused("capabilities.add_ambient_capabilities[0]",
          [](Security* s) { s->mutable_capabilities()->add_add_ambient_capabilities("CAP_X"); });
  refused("privileged", [](Security* s) { s->set_privileged(true); });
  refused("selinux_options.level",
          [](Security* s) { s->mutable_selinux_options()->set_level("nonsense"); });
  refused("selinux_options.type",
          [](Security* s) { s->mutable_selinux_options()->set_type("a:b"); });
  refused("masked_paths[0]", [](Security* s) { s->add_masked_paths("relative"); });
  refused("readonly_paths[0]", [](Security* s) { s->add_readonly_paths(""); });
  refused("apparmor.localhost_ref",
          [](Security* s) { s->mutable_apparmor()->set_profile_type(Profile::Localhost); });
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
  refused("apparmor_profile", [](Security* s) { s->set_apparmor_profile("nonsense"); });
  refused("seccomp_profile_path", [](Security* s) { s->set_seccomp_profile_path("localhost/"); });
#pragma GCC diagnostic pop
  ASSERT_OK(RemovePod(pod));
  EXPECT_TRUE(Eventually([&] { return Leftovers().empty(); }));
  EXPECT_THAT(Leftovers(), IsEmpty());
}

TEST_F(SecurityTest, PodsAreRefusedBeforeAnythingIsMade) {
  const auto refused = [&](const char* field, bool shared_pid,
                           const std::function<void(cri::LinuxSandboxSecurityContext*)>& change) {
    cri::RunPodSandboxRequest request = PodRequest("refused");
    auto* security = request.mutable_config()->mutable_linux()->mutable_security_context();
    if (shared_pid) security->mutable_namespace_options()->set_pid(cri::POD);
    change(security);
    const absl::StatusOr<std::string> pod = RunPod(request);
    EXPECT_FALSE(pod.ok()) << field;
    EXPECT_THAT(std::string(pod.status().message()), HasSubstr(field));
    EXPECT_THAT(Leftovers(), IsEmpty());
  };
  using Pod = cri::LinuxSandboxSecurityContext;
  refused("run_as_group", false, [](Pod* s) { s->mutable_run_as_group()->set_value(1); });
  refused("run_as_user", false, [](Pod* s) { s->mutable_run_as_user()->set_value(-2); });
  refused("selinux_options.level", false,
          [](Pod* s) { s->mutable_selinux_options()->set_level("s0:"); });
  refused("seccomp.localhost_ref", true, [](Pod* s) {
    s->mutable_seccomp()->set_profile_type(Profile::Localhost);
    s->mutable_seccomp()->set_localhost_ref("/no/such/profile.json");
  });
  refused("apparmor.localhost_ref", true, [](Pod* s) {
    s->mutable_apparmor()->set_profile_type(Profile::Localhost);
    s->mutable_apparmor()->set_localhost_ref("no-such-profile");
  });
}

TEST_F(SecurityTest, HolderOfThePidNamespaceIsWhoThePodSays) {
  ASSERT_OK(Pull(kBusybox));
  cri::RunPodSandboxRequest request = PodRequest("pod");
  auto* security = request.mutable_config()->mutable_linux()->mutable_security_context();
  security->mutable_namespace_options()->set_pid(cri::POD);
  security->mutable_run_as_user()->set_value(65535);
  security->mutable_run_as_group()->set_value(65534);
  security->add_supplemental_groups(1234);
  security->mutable_seccomp()->set_profile_type(Profile::RuntimeDefault);
  ASSERT_OK_AND_ASSIGN(const std::string pod, RunPod(request));
  ASSERT_OK_AND_ASSIGN(const std::string container, Run(pod, "c", [](Security*) {}));
  const std::string status = Output(container, "cat /proc/1/status");
  EXPECT_THAT(status, AllOf(HasSubstr("crisp-init"), HasSubstr("Uid:\t65535\t65535\t"),
                            HasSubstr("Gid:\t65534\t65534\t"), HasSubstr("1234"),
                            HasSubstr("NoNewPrivs:\t1"), HasSubstr("Seccomp:\t2"),
                            HasSubstr("CapBnd:\t0000000000000000")));
}

// A daemon with a seccomp_profile of its own.
class ConfiguredSecurityTest : public SecurityTest {
 protected:
  void Prepare() override {
    const std::string path = environment().Get("RUN") + "/default.json";
    ASSERT_OK(base::ReplaceFile(path,
                                R"({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{
                                    "names": ["sethostname"], "action": "SCMP_ACT_ERRNO"}]})",
                                0600, base::Durability::kVolatile));
    ASSERT_OK(environment().EditConfig(
        "log_level = \"debug\"",
        base::StrCat("log_level = \"debug\"\nseccomp_profile = \"", path, "\"")));
  }
};

TEST_F(ConfiguredSecurityTest, SeccompProfileIsRuntimeDefault) {
  ASSERT_OK(Pull(kBusybox));
  ASSERT_OK_AND_ASSIGN(const std::string pod, RunPod("pod"));
  ASSERT_OK_AND_ASSIGN(const std::string container, Run(pod, "c", [](Security* s) {
                         s->mutable_capabilities()->add_add_capabilities("SYS_ADMIN");
                         s->mutable_seccomp()->set_profile_type(Profile::RuntimeDefault);
                       }));
  EXPECT_EQ(StatusLine(container, "Seccomp"), "2\n");
  EXPECT_THAT(Output(container, "hostname new"), HasSubstr("Operation not permitted"));
  EXPECT_EQ(Output(container, "unshare -m true && echo done"), "done\n");
  ASSERT_OK(daemon().Stop());
  ASSERT_OK(base::RemoveFile(environment().Get("RUN") + "/default.json"));
  const absl::Status started = daemon().Start();
  EXPECT_FALSE(started.ok());
  EXPECT_THAT(std::string(started.message()), HasSubstr("seccomp_profile"));
}

}  // namespace
}  // namespace test
