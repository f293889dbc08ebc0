#include "runtimeservice/spec/user.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "base/files.h"

namespace runtimeservice {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr char kPasswd[] =
    "# comment:x:1:1\n"
    "root:x:0:0:root:/root:/bin/sh\n"
    "broken line\n"
    "1000:x:0:0:digits are never a name:/:/bin/sh\n"
    "app:x:1000:1000::/home/app:/bin/sh\n"
    "big:x:99999999999:1::/:\n"
    "last:x:2000:2001";
constexpr char kGroup[] =
    "root:x:0:\n"
    "app:x:1000:\n"
    "extra:x:50000:other,app\n"
    "apple:x:7:apple\n"
    "bad:x:minus:app\n"
    "ops:x:60:last,app";

class UserTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/crisp-user-XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    rootfs_ = name;
    ASSERT_TRUE(base::MakeDirectories(rootfs_ + "/etc").ok());
    Write("/etc/passwd", kPasswd);
    Write("/etc/group", kGroup);
  }
  void TearDown() override { std::filesystem::remove_all(rootfs_); }

  void Write(const std::string& path, const std::string& text) {
    ASSERT_TRUE(base::ReplaceFile(rootfs_ + path, text, 0644, base::Durability::kVolatile).ok());
  }
  absl::StatusOr<ProcessUser> Resolve() const {
    return ResolveUser(security_, image_user_, rootfs_);
  }
  // "uid:gid:group,group" or the error.
  std::string Result() const {
    const absl::StatusOr<ProcessUser> user = Resolve();
    if (!user.ok()) {
      return user.status().ToString();
    }
    std::string text = std::to_string(user->uid) + ":" + std::to_string(user->gid) + ":";
    for (const uint32_t group : user->groups) {
      text += std::to_string(group) + ",";
    }
    return text;
  }

  cri::LinuxContainerSecurityContext security_;
  std::string image_user_;
  std::string rootfs_;
};

TEST_F(UserTest, NothingGivenIsRoot) { EXPECT_EQ(Result(), "0:0:0,"); }

TEST_F(UserTest, MergeAddsTheImagesGroups) {
  security_.mutable_run_as_user()->set_value(1000);
  security_.add_supplemental_groups(1234);
  EXPECT_EQ(Result(), "1000:1000:60,1000,1234,50000,");
}

TEST_F(UserTest, StrictHasOnlyWhatIsListed) {
  security_.mutable_run_as_user()->set_value(1000);
  security_.add_supplemental_groups(1234);
  security_.set_supplemental_groups_policy(cri::Strict);
  EXPECT_EQ(Result(), "1000:1000:1000,1234,");
}

TEST_F(UserTest, UnknownPolicyIsRefused) {
  security_.set_supplemental_groups_policy(static_cast<cri::SupplementalGroupsPolicy>(7));
  EXPECT_THAT(Result(), HasSubstr("supplemental_groups_policy"));
}

TEST_F(UserTest, UserIdWinsOverNameAndImage) {
  security_.mutable_run_as_user()->set_value(5);
  security_.set_run_as_username("app");
  image_user_ = "last";
  EXPECT_EQ(Result(), "5:0:0,");
}

TEST_F(UserTest, NameIsLookedUp) {
  security_.set_run_as_username("last");
  EXPECT_EQ(Result(), "2000:2001:60,2001,");
}

TEST_F(UserTest, UnknownNameIsRefused) {
  security_.set_run_as_username("nobody");
  EXPECT_THAT(Result(), HasSubstr("run_as_username"));
  EXPECT_TRUE(absl::IsInvalidArgument(Resolve().status()));
}

TEST_F(UserTest, RequestedGroupReplacesTheUsersOwn) {
  security_.mutable_run_as_user()->set_value(1000);
  security_.mutable_run_as_group()->set_value(42);
  security_.set_supplemental_groups_policy(cri::Strict);
  EXPECT_EQ(Result(), "1000:42:42,");
}

TEST_F(UserTest, GroupWithoutUserIsRefused) {
  image_user_ = "app";
  security_.mutable_run_as_group()->set_value(42);
  EXPECT_THAT(Result(), HasSubstr("run_as_group"));
  EXPECT_TRUE(absl::IsInvalidArgument(Resolve().status()));
}

TEST_F(UserTest, ImageUserTakesEveryForm) {
  security_.set_supplemental_groups_policy(cri::Strict);
  const std::pair<const char*, const char*> kCases[] = {
      {"app", "1000:1000:1000,"},  {"1000", "1000:1000:1000,"},        {"77", "77:0:0,"},
      {"77:78", "77:78:78,"},      {"app:extra", "1000:50000:50000,"}, {"app:50", "1000:50:50,"},
      {"app:", "1000:1000:1000,"}, {":extra", "0:50000:50000,"},
  };
  for (const auto& [user, expected] : kCases) {
    image_user_ = user;
    EXPECT_EQ(Result(), expected) << user;
  }
}

TEST_F(UserTest, DigitsAreNeverAName) {
  image_user_ = "1000";  // There is a user of this name, with uid 0.
  EXPECT_EQ(Resolve()->uid, 1000);
}

TEST_F(UserTest, UnknownImageUserOrGroupIsRefused) {
  for (const char* user :
       {"ghost", "app:ghost", "4294967295", "99999999999", "-1", "0:99999999999"}) {
    image_user_ = user;
    EXPECT_TRUE(absl::IsInvalidArgument(Resolve().status())) << user;
  }
}

TEST_F(UserTest, NumbersOutOfRangeAreRefused) {
  security_.mutable_run_as_user()->set_value(-1);
  EXPECT_THAT(Result(), HasSubstr("run_as_user"));
  security_.mutable_run_as_user()->set_value(int64_t{UINT32_MAX});
  EXPECT_THAT(Result(), HasSubstr("run_as_user"));
  security_.mutable_run_as_user()->set_value(1);
  security_.add_supplemental_groups(1);
  security_.add_supplemental_groups(int64_t{1} << 32);
  EXPECT_THAT(Result(), HasSubstr("supplemental_groups[1]"));
}

TEST_F(UserTest, ImageWithoutFilesHasNumbersOnly) {
  std::filesystem::remove_all(rootfs_ + "/etc");
  image_user_ = "1000:1000";
  EXPECT_EQ(Result(), "1000:1000:1000,");
  image_user_ = "app";
  EXPECT_TRUE(absl::IsInvalidArgument(Resolve().status()));
}

TEST_F(UserTest, SymlinksCannotLeaveTheRootfs) {
  std::filesystem::remove(rootfs_ + "/etc/passwd");
  std::filesystem::create_symlink("/../../../../../../../etc/other", rootfs_ + "/etc/passwd");
  Write("/etc/other", "app:x:7:7::/:\n");
  image_user_ = "app";
  EXPECT_EQ(Resolve()->uid, 7);
}

TEST_F(UserTest, PipesAndDirectoriesAreRefusedAtOnce) {
  std::filesystem::remove(rootfs_ + "/etc/passwd");
  ASSERT_EQ(mkfifo((rootfs_ + "/etc/passwd").c_str(), 0600), 0);
  EXPECT_TRUE(absl::IsFailedPrecondition(Resolve().status()));
  std::filesystem::remove(rootfs_ + "/etc/passwd");
  std::filesystem::create_directory(rootfs_ + "/etc/passwd");
  EXPECT_TRUE(absl::IsFailedPrecondition(Resolve().status()));
}

TEST_F(UserTest, EndlessFilesAreRefused) {
  ASSERT_EQ(truncate((rootfs_ + "/etc/passwd").c_str(), off_t{5} << 20), 0);
  EXPECT_TRUE(absl::IsResourceExhausted(Resolve().status()));
}

TEST_F(UserTest, StatusShowsTheGroupsInForce) {
  security_.mutable_run_as_user()->set_value(1000);
  security_.add_supplemental_groups(1234);
  const cri::ContainerUser user = Resolve()->ToCri();
  EXPECT_EQ(user.linux().uid(), 1000);
  EXPECT_EQ(user.linux().gid(), 1000);
  EXPECT_THAT(user.linux().supplemental_groups(), ElementsAre(60, 1000, 1234, 50000));
}

TEST(UserFilesTest, GroupsOfMemberStopAtTheLimit) {
  EXPECT_THAT(GroupsOfMember("a:x:1:u\nb:x:2:u\nc:x:3:u\n", "u", 2), ElementsAre(1, 2));
  EXPECT_THAT(GroupsOfMember("a:x:1:uu,u2\n", "u", 2), IsEmpty());
}

}  // namespace
}  // namespace runtimeservice
