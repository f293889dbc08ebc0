#include "runtimeservice/spec/apparmor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include "base/files.h"
#include "base/strings.h"

namespace runtimeservice {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using Profile = cri::SecurityProfile;

TEST(AppArmorTextTest, NamesItselfAsThePeerOfItsSignals) {
  const std::string text = AppArmorProfileText("some-name", false);
  EXPECT_THAT(text, HasSubstr("profile some-name flags="));
  EXPECT_THAT(text, HasSubstr("signal (send, receive) peer=some-name,"));
  EXPECT_THAT(text, HasSubstr("ptrace (read, readby, trace, tracedby) peer=some-name,"));
  EXPECT_THAT(text, AllOf(Not(HasSubstr("NAME")), Not(HasSubstr("abi "))));
  EXPECT_THAT(AppArmorProfileText("n", true), testing::StartsWith("abi <abi/3.0>,\n"));
}

TEST(AppArmorTextTest, DeniesWhatItPromises) {
  const std::string text = AppArmorProfileText("n", false);
  for (const char* rule : {"deny mount,", "deny /proc/* wkl,", "deny /proc/[^0-9]*/** wkl,",
                           "deny /sys/[^f]*/** wkl,", "signal (receive) peer=unconfined,"}) {
    EXPECT_THAT(text, HasSubstr(rule));
  }
}

TEST(AppArmorListTest, NamesAreWholeLinesLessTheMode) {
  const char kList[] = "crisp-default (enforce)\nodd (name) (complain)\nlast (kill)";
  EXPECT_TRUE(AppArmorListHas(kList, "crisp-default"));
  EXPECT_TRUE(AppArmorListHas(kList, "odd (name)"));
  EXPECT_TRUE(AppArmorListHas(kList, "last"));
  for (const char* name : {"", "crisp", "default", "crisp-default (enforce)", "odd", "las"}) {
    EXPECT_FALSE(AppArmorListHas(kList, name)) << name;
  }
  EXPECT_FALSE(AppArmorListHas("", "x"));
}

// A host whose list of profiles is a file, and whose parser is a script that adds to it.
class AppArmorProfilesTest : public testing::Test {
 protected:
  AppArmorProfilesTest() {
    char folder[] = "/tmp/apparmor-test-XXXXXX";
    folder_ = mkdtemp(folder);
    host_ = {.enabled = true,
             .loaded_file = folder_ + "/profiles",
             .parsers = {folder_ + "/absent", folder_ + "/parser"},
             .abi_file = folder_ + "/abi"};
    SetLoaded("node-own (enforce)\n");
  }
  ~AppArmorProfilesTest() override { EXPECT_TRUE(base::RemoveTree(folder_).ok()); }

  void SetLoaded(const std::string& list) { Write(host_.loaded_file, list, 0600); }
  void SetParser(const std::string& script) {
    Write(folder_ + "/parser", "#!/bin/sh\n" + script, 0700);
  }
  // One that does its work and keeps what it was told.
  void SetWorkingParser() {
    SetParser(base::StrCat("cat >", folder_, "/text; echo \"$*\" >", folder_,
                           "/arguments; echo 'crisp-default (enforce)' >>", host_.loaded_file));
  }
  std::string Content(const std::string& name) {
    return base::ReadFile(base::StrCat(folder_, "/", name)).value_or("");
  }
  AppArmorProfiles Profiles(std::string name = std::string(kAppArmorDefault)) {
    return AppArmorProfiles(host_, std::move(name), launcher_);
  }
  // The profile of a container that asks for `type` of `reference`.
  static absl::StatusOr<std::string> Get(AppArmorProfiles* profiles, Profile::ProfileType type,
                                         const std::string& reference = "",
                                         bool privileged = false) {
    cri::LinuxContainerSecurityContext security;
    security.set_privileged(privileged);
    security.mutable_apparmor()->set_profile_type(type);
    security.mutable_apparmor()->set_localhost_ref(reference);
    return profiles->Get(security);
  }
  static absl::StatusOr<std::string> GetUnset(AppArmorProfiles* profiles, bool privileged = false) {
    cri::LinuxContainerSecurityContext security;
    security.set_privileged(privileged);
    return profiles->Get(security);
  }

  std::string folder_;
  AppArmorHost host_;
  const base::Launcher launcher_{"", ""};

 private:
  static void Write(const std::string& path, const std::string& text, mode_t mode) {
    ASSERT_TRUE(base::ReplaceFile(path, text, mode, base::Durability::kVolatile).ok());
  }
};

TEST_F(AppArmorProfilesTest, DefaultIsLoadedOnce) {
  SetWorkingParser();
  AppArmorProfiles profiles = Profiles();
  ASSERT_TRUE(profiles.LoadDefault({}).ok());
  EXPECT_EQ(Content("text"), AppArmorProfileText("crisp-default", false));
  EXPECT_EQ(Content("arguments"), "--replace --skip-cache\n");
  EXPECT_EQ(*Get(&profiles, Profile::RuntimeDefault), "crisp-default");
  EXPECT_EQ(*GetUnset(&profiles), "crisp-default");
  SetParser("exit 1");
  EXPECT_TRUE(profiles.LoadDefault({}).ok());
}

TEST_F(AppArmorProfilesTest, DefaultThatWasUnloadedIsLoadedAgainByTheNextContainer) {
  SetWorkingParser();
  AppArmorProfiles profiles = Profiles();
  ASSERT_TRUE(profiles.LoadDefault({}).ok());
  SetLoaded("node-own (enforce)\n");
  EXPECT_EQ(*GetUnset(&profiles), "crisp-default");
  EXPECT_THAT(Content("profiles"), HasSubstr("crisp-default (enforce)\n"));
  SetLoaded("node-own (enforce)\n");
  SetParser("echo started >>" + folder_ + "/starts; exit 3");
  for (int i = 0; i < 2; ++i) {
    const absl::Status refused = Get(&profiles, Profile::RuntimeDefault).status();
    EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(std::string(refused.message()),
                HasSubstr("linux.security_context.apparmor: apparmor_parser ends with 3"));
  }
  EXPECT_EQ(Content("starts"), "started\n");  // A parser that fails is not started for each.
  EXPECT_FALSE(profiles.DefaultState().ok());
}

TEST_F(AppArmorProfilesTest, FailedLoadIsSaidAndRefusesContainers) {
  SetParser("echo bad profile >&2; exit 3");
  AppArmorProfiles profiles = Profiles();
  const absl::Status status = profiles.LoadDefault({});
  EXPECT_THAT(std::string(status.message()), HasSubstr("apparmor_parser ends with 3: bad profile"));
  EXPECT_EQ(profiles.DefaultState(), status);
  for (const auto& got : {Get(&profiles, Profile::RuntimeDefault), GetUnset(&profiles)}) {
    EXPECT_EQ(got.status().code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(std::string(got.status().message()), HasSubstr("linux.security_context.apparmor"));
  }
  EXPECT_EQ(*Get(&profiles, Profile::Unconfined), "");
  EXPECT_EQ(*Get(&profiles, Profile::Localhost, "node-own"), "node-own");
  SetLoaded("crisp-default (enforce)\n");  // By hand, later.
  EXPECT_EQ(*GetUnset(&profiles), "crisp-default");
  EXPECT_TRUE(profiles.DefaultState().ok());
}

TEST_F(AppArmorProfilesTest, WithoutParserOnlyWhoAskedIsRefused) {
  AppArmorProfiles profiles = Profiles();
  EXPECT_THAT(std::string(profiles.LoadDefault({}).message()),
              HasSubstr("apparmor_parser is not installed"));
  EXPECT_EQ(*GetUnset(&profiles), "");
  EXPECT_EQ(Get(&profiles, Profile::RuntimeDefault).status().code(),
            absl::StatusCode::kFailedPrecondition);
}

TEST_F(AppArmorProfilesTest, NodesOwnDefaultIsNeverGenerated) {
  SetWorkingParser();
  AppArmorProfiles own = Profiles("node-own");
  EXPECT_TRUE(own.LoadDefault({}).ok());
  EXPECT_EQ(*GetUnset(&own), "node-own");
  AppArmorProfiles missing = Profiles("node-other");
  EXPECT_THAT(std::string(missing.LoadDefault({}).message()),
              HasSubstr("apparmor_profile: the AppArmor profile \"node-other\" is not loaded"));
  EXPECT_FALSE(GetUnset(&missing).ok());
  EXPECT_EQ(Content("text"), "");
  AppArmorProfiles none = Profiles("unconfined");
  EXPECT_TRUE(none.LoadDefault({}).ok());
  EXPECT_EQ(*Get(&none, Profile::RuntimeDefault), "");
}

TEST_F(AppArmorProfilesTest, NamedProfileMustBeLoaded) {
  AppArmorProfiles profiles = Profiles();
  EXPECT_EQ(*Get(&profiles, Profile::Localhost, "node-own"), "node-own");
  EXPECT_EQ(*Get(&profiles, Profile::Localhost, "localhost/node-own"), "node-own");
  for (const char* name : {"absent", "node", "node-own (enforce)", "unconfined", "x\nnode-own"}) {
    const absl::Status status = Get(&profiles, Profile::Localhost, name).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << name;
    EXPECT_THAT(std::string(status.message()),
                HasSubstr("linux.security_context.apparmor.localhost_ref: "))
        << name;
  }
}

TEST_F(AppArmorProfilesTest, PrivilegedHasOnlyAProfileItNames) {
  SetLoaded("crisp-default (enforce)\nnode-own (enforce)\n");
  AppArmorProfiles profiles = Profiles();
  EXPECT_EQ(*GetUnset(&profiles, true), "");
  EXPECT_EQ(*Get(&profiles, Profile::RuntimeDefault, "", true), "");
  EXPECT_EQ(*Get(&profiles, Profile::Localhost, "node-own", true), "node-own");
}

TEST_F(AppArmorProfilesTest, WithoutAppArmorANamedProfileIsRefused) {
  host_.enabled = false;
  SetParser("exit 1");
  AppArmorProfiles profiles = Profiles();
  EXPECT_TRUE(profiles.LoadDefault({}).ok());
  EXPECT_EQ(*GetUnset(&profiles), "");
  EXPECT_EQ(*Get(&profiles, Profile::RuntimeDefault), "");
  const absl::Status status = Get(&profiles, Profile::Localhost, "node-own").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr("the host has no AppArmor"));
}

}  // namespace
}  // namespace runtimeservice
