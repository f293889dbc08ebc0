#include "runtimeservice/handlers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include "base/files.h"
#include "base/strings.h"

namespace runtimeservice {
namespace {

using testing::HasSubstr;

class HandlersTest : public testing::Test {
 protected:
  void SetUp() override {
    char path[] = "/tmp/crisp-handlers-XXXXXX";
    directory_ = mkdtemp(path);
  }
  void TearDown() override { ASSERT_TRUE(base::RemoveTree(directory_).ok()); }

  std::string Program() const { return directory_ + "/runtime"; }
  void Install() {
    ASSERT_TRUE(
        base::ReplaceFile(Program(), "#!/bin/sh\n", 0755, base::Durability::kVolatile).ok());
  }
  std::map<std::string, HandlerConfig> Configs() {
    return {{"own", {.runtime = {.path = Program()}, .probe = [this](HandlerTraits traits) {
                       traits.oci_version = base::StrCat("probe ", ++probes_);
                       return traits;
                     }}}};
  }

  std::string directory_;
  int probes_ = 0;
  base::Launcher launcher_{"", ""};
  HostFacts host_;
};

TEST_F(HandlersTest, AProgramIsAskedOnceAndAgainWhenItIsReplaced) {
  Install();
  Handlers handlers(Configs(), launcher_, host_);
  EXPECT_EQ(probes_, 1);
  const auto first = handlers.Find("own");
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_EQ((*first)->traits.oci_version, "probe 1");
  EXPECT_EQ(*handlers.Find("own"), *first);
  EXPECT_EQ(probes_, 1);

  Install();
  const auto second = handlers.Find("own");
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_EQ((*second)->traits.oci_version, "probe 2");
  EXPECT_EQ((*first)->traits.oci_version, "probe 1") << "what is in use stays as it was";
  EXPECT_EQ(&handlers.at("own"), *second);
  EXPECT_EQ(handlers.All(), std::vector<const Handler*>{*second});
}

TEST_F(HandlersTest, AMissingProgramIsNamedAndFoundOnceItIsThere) {
  Handlers handlers(Configs(), launcher_, host_);
  EXPECT_EQ(probes_, 0);
  const absl::Status missing = handlers.Find("own").status();
  EXPECT_TRUE(absl::IsFailedPrecondition(missing)) << missing;
  EXPECT_THAT(std::string(missing.message()), HasSubstr("runtime_handler \"own\""));
  EXPECT_THAT(std::string(missing.message()), HasSubstr(Program()));
  ASSERT_EQ(handlers.All().size(), 1u);

  Install();
  EXPECT_TRUE(handlers.Find("own").ok());
  EXPECT_EQ(probes_, 1);
  ASSERT_EQ(unlink(Program().c_str()), 0);
  EXPECT_TRUE(absl::IsFailedPrecondition(handlers.Find("own").status()));
}

TEST_F(HandlersTest, AnUnknownNameIsInvalid) {
  Handlers handlers(Configs(), launcher_, host_);
  EXPECT_TRUE(absl::IsInvalidArgument(handlers.Find("other").status()));
  EXPECT_TRUE(absl::IsInvalidArgument(handlers.Find("").status()));
}

}  // namespace
}  // namespace runtimeservice
