// AppArmor profiles around real containers: SKIP where the kernel or the parser is missing.
#include "base/subprocess.h"
#include "test/integration/security_fixture.h"

namespace test {
namespace {

using testing::HasSubstr;

class AppArmorTest : public SecurityTest {
 protected:
  void SetUp() override {
    if (!base::Exists("/sys/kernel/security/apparmor/profiles")) {
      GTEST_SKIP() << "SKIP: AppArmor in the kernel";
    }
    if (!base::Exists("/usr/sbin/apparmor_parser") && !base::Exists("/sbin/apparmor_parser")) {
      GTEST_SKIP() << "SKIP: apparmor_parser";
    }
    SecurityTest::SetUp();
  }
  void TearDown() override {
    if (!loaded_.empty()) Parser("--remove", loaded_);
    SecurityTest::TearDown();
  }

  // Loads a profile of the test's own that denies `rule`.
  std::string Load(const std::string& rule) {
    const std::string name = environment().name() + "-own";
    loaded_ = base::StrCat("profile ", name, " { file, network, capability, signal, ptrace, deny ",
                           rule, ", }");
    Parser("--replace", loaded_);
    return name;
  }
  // The profile of the container's first process.
  absl::StatusOr<std::string> ProfileOf(std::string_view container) const {
    cri::ContainerStatusRequest request;
    request.set_container_id(std::string(container));
    ASSIGN_OR_RETURN(const std::string pid,
                     base::ReadFile(base::StrCat(environment().Get("RUN_ROOT"), "/containers/",
                                                 container, "/pid")));
    const std::string number(pid.substr(0, pid.find_first_not_of("0123456789")));
    return base::ReadFile(base::StrCat("/proc/", number, "/attr/current"));
  }

 private:
  static void Parser(const char* action, const std::string& text) {
    const char* path = base::Exists("/usr/sbin/apparmor_parser") ? "/usr/sbin/apparmor_parser"
                                                                 : "/sbin/apparmor_parser";
    base::Command command;
    command.argv = {path, action, "--skip-cache"};
    const auto result = base::RunCommand(base::Context::Detached(absl::Minutes(1)), command, text);
    ASSERT_OK(result);
    EXPECT_EQ(result->exit.code, 0) << result->err;
  }
  std::string loaded_;
};

TEST_F(AppArmorTest, DefaultProfileConfinesUnlessSaidOtherwise) {
  ASSERT_OK(Pull(kBusybox));
  ASSERT_OK_AND_ASSIGN(const std::string pod, RunPrivilegedPod("pod"));
  const Change unset = [](Security* s) { s->mutable_capabilities()->add_add_capabilities("ALL"); };
  ASSERT_OK_AND_ASSIGN(const std::string confined, Run(pod, "confined", unset));
  const std::string own = "cat /proc/self/attr/current";
  EXPECT_EQ(Output(confined, own), "crisp-default (enforce)\n");
  EXPECT_THAT(Output(confined, "mount -t tmpfs none /tmp"), HasSubstr("denied"));
  EXPECT_THAT(Output(confined, "echo 1 >/proc/sys/kernel/shm_rmid_forced"), HasSubstr("denied"));
  EXPECT_THAT(Output(confined, "ls /sys/kernel/security"), HasSubstr("denied"));
  EXPECT_EQ(Output(confined, "touch /x /tmp/x && kill -0 1 && ls /proc >/dev/null && echo fine"),
            "fine\n");
  ASSERT_OK_AND_ASSIGN(const std::string asked, Run(pod, "asked", [&](Security* s) {
                         s->mutable_apparmor()->set_profile_type(Profile::RuntimeDefault);
                       }));
  EXPECT_EQ(Output(asked, own), "crisp-default (enforce)\n");
  ASSERT_OK_AND_ASSIGN(const std::string open, Run(pod, "open", [&](Security* s) {
                         unset(s);
                         s->mutable_apparmor()->set_profile_type(Profile::Unconfined);
                       }));
  EXPECT_EQ(Output(open, own), "unconfined\n");
  EXPECT_EQ(Output(open, "mount -t tmpfs none /tmp && echo mounted"), "mounted\n");
  ASSERT_OK_AND_ASSIGN(const std::string privileged,
                       Run(pod, "privileged", [](Security* s) { s->set_privileged(true); }));
  EXPECT_EQ(Output(privileged, own), "unconfined\n");
  // The daemon can stop what it confines.
  ASSERT_OK(StopContainer(confined, 0));
  ASSERT_OK_AND_ASSIGN(const cri::ContainerStatus stopped, Status(confined));
  EXPECT_EQ(stopped.state(), cri::CONTAINER_EXITED);
}

TEST_F(AppArmorTest, NamedProfileConfinesByBothFields) {
  ASSERT_OK(Pull(kBusybox));
  const std::string name = Load("/etc/passwd r");
  ASSERT_OK_AND_ASSIGN(const std::string pod, RunPod("pod"));
  ASSERT_OK_AND_ASSIGN(const std::string by_message, Run(pod, "new", [&](Security* s) {
                         s->mutable_apparmor()->set_profile_type(Profile::Localhost);
                         s->mutable_apparmor()->set_localhost_ref(name);
                       }));
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
  ASSERT_OK_AND_ASSIGN(const std::string by_word, Run(pod, "old", [&](Security* s) {
                         s->set_apparmor_profile("localhost/" + name);
                       }));
#pragma GCC diagnostic pop
  for (const std::string& container : {by_message, by_word}) {
    EXPECT_THAT(Output(container, "cat /etc/passwd"), HasSubstr("denied"));
    EXPECT_EQ(Output(container, "cat /proc/self/attr/current"), name + " (enforce)\n");
    ASSERT_OK_AND_ASSIGN(const std::string first, ProfileOf(container));
    EXPECT_EQ(first, name + " (enforce)\n");
  }
}

TEST_F(AppArmorTest, UnloadedProfileIsRefused) {
  ASSERT_OK(Pull(kBusybox));
  ASSERT_OK_AND_ASSIGN(const std::string pod, RunPod("pod"));
  ExpectRefused(pod, absl::StatusCode::kFailedPrecondition, "apparmor.localhost_ref",
                [](Security* s) {
                  s->mutable_apparmor()->set_profile_type(Profile::Localhost);
                  s->mutable_apparmor()->set_localhost_ref("no-such-profile");
                });
}

TEST_F(AppArmorTest, HolderOfThePidNamespaceIsConfined) {
  ASSERT_OK(Pull(kBusybox));
  cri::RunPodSandboxRequest request = PodRequest("pod");
  request.mutable_config()
      ->mutable_linux()
      ->mutable_security_context()
      ->mutable_namespace_options()
      ->set_pid(cri::POD);
  ASSERT_OK_AND_ASSIGN(const std::string pod, RunPod(request));
  ASSERT_OK_AND_ASSIGN(const std::string container, Run(pod, "c", [](Security*) {}));
  EXPECT_EQ(Output(container, "cat /proc/1/attr/current"), "crisp-default (enforce)\n");
}

}  // namespace
}  // namespace test
