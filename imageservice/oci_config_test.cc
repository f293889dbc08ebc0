#include "imageservice/oci_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace imageservice {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Pair;
using ::testing::UnorderedElementsAre;

const std::string kDiffId = std::string(64, 'a');
const std::string kRootfs = R"("rootfs":{"type":"layers","diff_ids":["sha256:)" + kDiffId + "\"]}";

TEST(OciConfigTest, WhatShapesAProcessIsRead) {
  const auto config = ParseOciConfig(R"({"architecture":"amd64","config":{
      "User":"app:grp","Env":["A=1","B=2"],"Entrypoint":["/e"],"Cmd":["c"],"WorkingDir":"/w",
      "Labels":{"k":"v"},"StopSignal":"SIGINT","Volumes":{"/data":{}},"Unknown":7},)" +
                                     kRootfs + "}");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->process.user, "app:grp");
  EXPECT_THAT(config->process.env, ElementsAre("A=1", "B=2"));
  EXPECT_THAT(config->process.entrypoint, ElementsAre("/e"));
  EXPECT_THAT(config->process.cmd, ElementsAre("c"));
  EXPECT_EQ(config->process.working_dir, "/w");
  EXPECT_EQ(config->process.stop_signal, "SIGINT");
  EXPECT_THAT(config->process.volumes, ElementsAre("/data"));
  EXPECT_THAT(config->process.labels, UnorderedElementsAre(Pair("k", "v")));
  EXPECT_THAT(config->diff_ids, ElementsAre(kDiffId));
}

TEST(OciConfigTest, AbsentAndNullMembersAreEmpty) {
  for (const std::string& text :
       {"{" + kRootfs + "}", R"({"config":null,)" + kRootfs + "}",
        R"({"config":{"Entrypoint":null,"Cmd":null,"Env":null,"Labels":null,"Volumes":null},)" +
            kRootfs + "}"}) {
    const auto config = ParseOciConfig(text);
    ASSERT_TRUE(config.ok()) << config.status();
    EXPECT_THAT(config->process.entrypoint, IsEmpty());
  }
}

TEST(OciConfigTest, OldImagesHavePlainStringsAsCommands) {
  const auto config = ParseOciConfig(R"({"config":{"Entrypoint":"/e","Cmd":""},)" + kRootfs + "}");
  ASSERT_TRUE(config.ok());
  EXPECT_THAT(config->process.entrypoint, ElementsAre("/e"));
  EXPECT_THAT(config->process.cmd, IsEmpty());
}

TEST(OciConfigTest, WhatIsNoConfigIsRefused) {
  for (const std::string& text :
       {std::string("{}"), std::string("[]"), std::string("no"),
        std::string(R"({"rootfs":{"type":"base","diff_ids":[]}})"),
        std::string(R"({"rootfs":{"diff_ids":["sha256:abc"]}})"),
        R"({"rootfs":{"diff_ids":[")" + kDiffId + R"("]}})",
        R"({"config":{"Env":"A=1"},)" + kRootfs + "}", R"({"config":[],)" + kRootfs + "}"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(ParseOciConfig(text).status())) << text;
  }
}

}  // namespace
}  // namespace imageservice
