#include "runtimeservice/spec/relabel.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/files.h"
#include "base/strings.h"

namespace runtimeservice {
namespace {

using ::testing::HasSubstr;

// Files can have it without SELinux, symlinks too; root alone may set it.
constexpr char kAttribute[] = "trusted.crisp-test";
constexpr char kLabel[] = "system_u:object_r:container_file_t:s0:c1,c2";

TEST(HostDirectoryTest, TheHostsOwnAreNotRelabelled) {
  for (const char* path : {"/", "//", "/etc", "/etc/", "/usr", "/var/lib", "/home", "/tmp"}) {
    EXPECT_TRUE(IsHostDirectory(path)) << path;
  }
  for (const char* path : {"/home/me", "/var/lib/kubelet", "/etc/mine", "/data", "/usrlocal"}) {
    EXPECT_FALSE(IsHostDirectory(path)) << path;
  }
}

class RelabelTest : public testing::Test {
 protected:
  void SetUp() override {
    char folder[] = "/tmp/relabel-test-XXXXXX";
    ASSERT_NE(mkdtemp(folder), nullptr);
    folder_ = folder;
    if (setxattr(folder, kAttribute, "x", 1, 0) != 0) {
      GTEST_SKIP() << "SKIP: trusted extended attributes on /tmp";
    }
  }
  void TearDown() override { EXPECT_TRUE(base::RemoveTree(folder_).ok()); }

  std::string At(const std::string& name) const { return base::StrCat(folder_, "/tree", name); }
  void MakeFile(const std::string& name) const {
    const std::string path = At(name);
    ASSERT_TRUE(base::MakeDirectories(path.substr(0, path.rfind('/'))).ok());
    ASSERT_TRUE(base::ReplaceFile(path, "x", 0600, base::Durability::kVolatile).ok());
  }
  static std::string LabelOf(const std::string& path) {
    char value[256];
    const ssize_t size = lgetxattr(path.c_str(), kAttribute, value, sizeof(value));
    return size < 0 ? "" : std::string(value, strnlen(value, static_cast<size_t>(size)));
  }
  absl::Status Run(const base::Context& ctx = {}, base::Lane* helpers = nullptr) const {
    return Relabel(ctx, At(""), kLabel, helpers, kAttribute);
  }

  std::string folder_;
};

TEST_F(RelabelTest, EverythingBelowGetsTheLabel) {
  for (const char* name : {"/file", "/a/file", "/a/b/file", "/.hidden/file"}) {
    MakeFile(name);
  }
  ASSERT_EQ(mkfifo(At("/a/pipe").c_str(), 0600), 0);
  ASSERT_TRUE(Run().ok());
  for (const char* name : {"", "/file", "/a", "/a/file", "/a/b", "/a/b/file", "/.hidden/file"}) {
    EXPECT_EQ(LabelOf(At(name)), kLabel) << name;
  }
}

TEST_F(RelabelTest, SymlinksAreLabelledAndNotFollowed) {
  MakeFile("/file");
  const std::string outside = folder_ + "/outside";
  ASSERT_TRUE(base::MakeDirectories(outside + "/inner").ok());
  ASSERT_EQ(symlink(outside.c_str(), At("/link").c_str()), 0);
  ASSERT_TRUE(Run().ok());
  EXPECT_EQ(LabelOf(At("/link")), kLabel);
  EXPECT_EQ(LabelOf(outside), "");
  EXPECT_EQ(LabelOf(outside + "/inner"), "");
}

TEST_F(RelabelTest, ALabelledTopMeansThatAllIsDone) {
  MakeFile("/file");
  ASSERT_TRUE(SetFileLabel(At(""), kLabel, kAttribute).ok());
  ASSERT_TRUE(Run().ok());
  EXPECT_EQ(LabelOf(At("/file")), "");
}

TEST_F(RelabelTest, TheTopIsLabelledLast) {
  MakeFile("/file");
  const auto cancelled = std::make_shared<base::Cancellation>();
  cancelled->Cancel();
  EXPECT_TRUE(absl::IsCancelled(Run(base::Context(base::SteadyTime::InfiniteFuture(), cancelled))));
  EXPECT_EQ(LabelOf(At("")), "");
  ASSERT_TRUE(Run().ok());  // A repetition is not deceived.
  EXPECT_EQ(LabelOf(At("/file")), kLabel);
  EXPECT_EQ(LabelOf(At("")), kLabel);
}

TEST_F(RelabelTest, HelpersMissNothing) {
  for (int i = 0; i < 40; ++i) {
    for (int j = 0; j < 10; ++j) {
      MakeFile(base::StrCat("/", i, "/", j, "/file"));
    }
  }
  base::Lane helpers("relabel", 3, 16);
  ASSERT_TRUE(Run({}, &helpers).ok());
  for (int i = 0; i < 40; ++i) {
    for (int j = 0; j < 10; ++j) {
      EXPECT_EQ(LabelOf(At(base::StrCat("/", i, "/", j, "/file"))), kLabel) << i << "/" << j;
    }
  }
}

TEST_F(RelabelTest, AFileAloneIsLabelled) {
  MakeFile("/file");
  ASSERT_TRUE(Relabel({}, At("/file"), kLabel, nullptr, kAttribute).ok());
  EXPECT_EQ(LabelOf(At("/file")), kLabel);
  EXPECT_EQ(LabelOf(At("")), "");
}

TEST_F(RelabelTest, HostDirectoriesAndWhatIsNotThereAreRefused) {
  const absl::Status host = Relabel({}, "/etc", kLabel, nullptr, kAttribute);
  EXPECT_TRUE(absl::IsInvalidArgument(host));
  EXPECT_THAT(std::string(host.message()), HasSubstr("/etc"));
  EXPECT_EQ(LabelOf("/etc"), "");
  EXPECT_TRUE(absl::IsNotFound(Run()));
}

}  // namespace
}  // namespace runtimeservice
