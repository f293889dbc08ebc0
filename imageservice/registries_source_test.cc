#include "imageservice/registries_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>

#include <memory>
#include <string>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/files.h"
#include "imageservice/testing/temp_directory.h"

namespace imageservice {
namespace {

using ::testing::HasSubstr;

using Config = std::shared_ptr<const RegistriesConfig>;

class RegistriesSourceTest : public ::testing::Test {
 protected:
  RegistriesSourceTest()
      : source_({.paths = {directory_ / "registries.conf", directory_ / "conf.d"},
                 .alias_cache = directory_ / "cache.conf"}) {}

  void Write(const std::string& name, const std::string& text) {
    ASSERT_TRUE(base::ReplaceFile(directory_ / name, text, 0644, base::Durability::kVolatile).ok());
  }
  std::string Meaning(const std::string& text) {
    return source_.LastGood()->Candidates(text)->front().str();
  }
  // Waits until files are not read again because nothing has changed for a while.
  bool Settles() {
    const absl::Time deadline = absl::Now() + absl::Seconds(20);
    while (*source_.Current() != *source_.Current()) {
      if (absl::Now() > deadline) {
        return false;
      }
      poll(nullptr, 0, 20);
    }
    return true;
  }

  testing::TempDirectory directory_;
  RegistriesSource source_;
};

TEST_F(RegistriesSourceTest, BeforeTheFirstReadNothingIsConfigured) {
  Write("registries.conf", "unqualified-search-registries = [\"a.io\"]");
  EXPECT_EQ(Meaning("app"), "docker.io/library/app:latest");
  ASSERT_TRUE(source_.Current().ok());
  EXPECT_EQ(Meaning("app"), "a.io/app:latest");
}

TEST_F(RegistriesSourceTest, WhatDidNotChangeIsNotReadAgainAndWhatDidIs) {
  Write("registries.conf", "unqualified-search-registries = [\"a.io\"]");
  EXPECT_TRUE(Settles());
  // A file that comes, changes in place, goes.
  Write("cache.conf", "[aliases]\n\"app\" = \"cache.io/app\"");
  ASSERT_TRUE(source_.Current().ok());
  EXPECT_EQ(Meaning("app"), "cache.io/app:latest");
  ASSERT_TRUE(base::MakeDirectories(directory_ / "conf.d").ok());
  Write("conf.d/10.conf", "unqualified-search-registries = [\"b.io\"]");
  ASSERT_TRUE(base::RemoveFile(directory_ / "cache.conf").ok());
  ASSERT_TRUE(source_.Current().ok());
  EXPECT_EQ(Meaning("app"), "b.io/app:latest");
  EXPECT_TRUE(Settles());
  ASSERT_TRUE(base::WriteControlFile(directory_ / "conf.d/10.conf",
                                     "unqualified-search-registries = [\"c.io\"]")
                  .ok());
  ASSERT_TRUE(source_.Current().ok());
  EXPECT_EQ(Meaning("app"), "c.io/app:latest");
}

TEST_F(RegistriesSourceTest, ABrokenFileIsAnErrorAndTheLastGoodStays) {
  Write("registries.conf", "unqualified-search-registries = [\"a.io\"]");
  ASSERT_TRUE(source_.Current().ok());
  ASSERT_TRUE(base::MakeDirectories(directory_ / "conf.d").ok());
  Write("conf.d/10.conf", "\n[[registry]\n");
  for (int i = 0; i < 2; ++i) {
    EXPECT_THAT(std::string(source_.Current().status().message()),
                HasSubstr(directory_ / "conf.d/10.conf:2: "));
    EXPECT_EQ(Meaning("app"), "a.io/app:latest");
  }
  Write("conf.d/10.conf", "unqualified-search-registries = [\"b.io\"]");
  ASSERT_TRUE(source_.Current().ok());
  EXPECT_EQ(Meaning("app"), "b.io/app:latest");
}

}  // namespace
}  // namespace imageservice
