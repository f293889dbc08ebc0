#include "runtimeservice/spec/security_profile.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace runtimeservice {
namespace {

using ::testing::HasSubstr;
using Profile = cri::SecurityProfile;

TEST(SecurityProfileTest, NothingIsNotGiven) {
  EXPECT_FALSE(ParseProfile(nullptr, "seccomp", "", "old")->given);
}

TEST(SecurityProfileTest, MessageSaysWhatItSays) {
  Profile message;
  EXPECT_TRUE(ParseProfile(&message, "seccomp", "", "old")->given);
  EXPECT_EQ(ParseProfile(&message, "seccomp", "", "old")->type, Profile::RuntimeDefault);
  message.set_profile_type(Profile::Unconfined);
  EXPECT_EQ(ParseProfile(&message, "seccomp", "", "old")->type, Profile::Unconfined);
  message.set_profile_type(Profile::Localhost);
  message.set_localhost_ref("mine");
  EXPECT_EQ(ParseProfile(&message, "seccomp", "", "old")->type, Profile::Localhost);
  EXPECT_EQ(ParseProfile(&message, "seccomp", "", "old")->reference, "mine");
}

TEST(SecurityProfileTest, DeprecatedWordsMeanTheSame) {
  EXPECT_EQ(ParseProfile(nullptr, "new", "runtime/default", "old")->type, Profile::RuntimeDefault);
  EXPECT_EQ(ParseProfile(nullptr, "new", "docker/default", "old")->type, Profile::RuntimeDefault);
  EXPECT_EQ(ParseProfile(nullptr, "new", "unconfined", "old")->type, Profile::Unconfined);
  const auto local = ParseProfile(nullptr, "new", "localhost//etc/p.json", "old");
  EXPECT_TRUE(local->given);
  EXPECT_EQ(local->type, Profile::Localhost);
  EXPECT_EQ(local->reference, "/etc/p.json");
  EXPECT_EQ(local->field, "linux.security_context.old");
}

TEST(SecurityProfileTest, MessageCountsBeforeTheWord) {
  Profile message;
  message.set_profile_type(Profile::Unconfined);
  EXPECT_EQ(ParseProfile(&message, "new", "localhost/x", "old")->type, Profile::Unconfined);
  EXPECT_TRUE(ParseProfile(&message, "new", "nonsense", "old").ok());
}

TEST(SecurityProfileTest, NonsenseIsRefusedByItsField) {
  for (const char* word : {"nonsense", "localhost/", "localhost", "runtime", "Unconfined"}) {
    const absl::Status status = ParseProfile(nullptr, "new", word, "old").status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << word;
    EXPECT_THAT(std::string(status.message()), HasSubstr("linux.security_context.old: ")) << word;
  }
  Profile message;
  message.set_profile_type(Profile::Localhost);
  EXPECT_THAT(std::string(ParseProfile(&message, "new", "", "old").status().message()),
              HasSubstr("linux.security_context.new.localhost_ref: "));
  message.set_profile_type(static_cast<Profile::ProfileType>(7));
  EXPECT_THAT(std::string(ParseProfile(&message, "new", "", "old").status().message()),
              HasSubstr("linux.security_context.new.profile_type: "));
}

TEST(SecurityProfileTest, ThePodsProfilesAreThoseOfItsProcess) {
  cri::LinuxSandboxSecurityContext pod;
  cri::LinuxContainerSecurityContext container;
  CopyPodProfiles(pod, &container);
  EXPECT_FALSE(RequestedSeccomp(container)->given);
  EXPECT_FALSE(RequestedAppArmor(container)->given);
  pod.mutable_seccomp();
  pod.mutable_apparmor()->set_profile_type(Profile::Localhost);
  pod.mutable_apparmor()->set_localhost_ref("mine");
  CopyPodProfiles(pod, &container);
  EXPECT_EQ(RequestedSeccomp(container)->type, Profile::RuntimeDefault);
  EXPECT_EQ(RequestedAppArmor(container)->reference, "mine");
  EXPECT_TRUE(CheckPodProfiles(pod).ok());
  pod.mutable_apparmor()->clear_localhost_ref();
  EXPECT_THAT(std::string(CheckPodProfiles(pod).message()), HasSubstr("apparmor.localhost_ref"));
}

}  // namespace
}  // namespace runtimeservice
