#include "runtimeservice/devices/oci_hooks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>

#include "base/files.h"
#include "base/strings.h"

namespace runtimeservice {
namespace {

using base::OrderedJson;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string FileText(std::string_view when, std::string_view hook = R"({"path": "/bin/true"})",
                     std::string_view stages = R"(["poststop"])") {
  return base::StrCat(R"({"version": "1.0.0", "hook": )", hook, R"(, "when": )", when,
                      R"(, "stages": )", stages, "}");
}

TEST(OciHookFileTest, EveryMemberIsRead) {
  const OciHookFile file =
      ParseOciHookFile(
          FileText(R"({"always": true, "hasBindMounts": true, "annotations": {"^a$": "b"},
                       "commands": ["/bin/.*"]})",
                   R"({"path": "/h", "args": ["h", "x"], "env": ["A=b"], "timeout": 7})",
                   R"(["prestart", "poststop", "createRuntime"])"))
          .value();
  EXPECT_EQ(file.hook.path, "/h");
  EXPECT_THAT(file.hook.args, ElementsAre("h", "x"));
  EXPECT_THAT(file.hook.env, ElementsAre("A=b"));
  EXPECT_EQ(file.hook.timeout_seconds, 7);
  EXPECT_THAT(file.stages, ElementsAre("createRuntime", "poststop"));
  EXPECT_EQ(file.always, true);
  EXPECT_EQ(file.has_bind_mounts, true);
  EXPECT_EQ(file.annotations.at("^a$"), "b");
  EXPECT_THAT(file.commands, ElementsAre("/bin/.*"));
}

TEST(OciHookFileTest, WhatIsNoHookIsRefusedWithItsPlace) {
  const auto expect_refused = [](std::string_view text, const char* what) {
    const absl::Status status = ParseOciHookFile(text).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << text;
    EXPECT_THAT(std::string(status.message()), HasSubstr(what));
  };
  expect_refused("", "parse error");
  expect_refused("[]", "\"version\"");
  expect_refused(R"({"hook": "/bin/true", "stage": ["prestart"]})", "\"version\"");
  expect_refused(R"({"version": "1.0.0", "when": {}, "stages": ["poststop"]})", "\"hook\"");
  expect_refused(R"({"version": "1.0.0", "hook": {"path": "/a"}, "stages": ["poststop"]})",
                 "\"when\"");
  expect_refused(FileText("{}", R"({"path": "a"})"), "hook: \"path\"");
  expect_refused(FileText("{}", R"({"path": "/a", "timeout": -1})"), "hook: \"timeout\"");
  expect_refused(FileText("{}", R"({"path": "/a"})", "[]"), "\"stages\"");
  expect_refused(FileText("{}", R"({"path": "/a"})", R"(["later"])"), "\"later\"");
  expect_refused(FileText(R"({"commands": ["("]})"), "when: commands");
  expect_refused(FileText(R"({"annotations": {"(": ""}})"), "when: annotations");
  expect_refused(FileText(R"({"annotations": {"a": "["}})"), "when: annotations");
  expect_refused(FileText(R"({"always": "yes"})"), "when: \"always\"");
}

TEST(HookMatchesTest, AllConditionsHoldAndOneAtLeast) {
  const std::map<std::string, std::string> annotations = {{"io.example/gpu", "true"},
                                                          {"other", "false"}};
  const auto matches = [&](const char* when, bool mounts = false) {
    return HookMatches(
        ParseOciHookFile(FileText(when)).value(),
        {.annotations = annotations, .command = "/usr/bin/python3", .has_bind_mounts = mounts});
  };
  EXPECT_FALSE(matches("{}"));
  EXPECT_TRUE(matches(R"({"always": true})"));
  EXPECT_FALSE(matches(R"({"always": false})"));
  EXPECT_FALSE(matches(R"({"always": false, "commands": [".*"]})"));
  EXPECT_TRUE(matches(R"({"hasBindMounts": true})", true));
  EXPECT_FALSE(matches(R"({"hasBindMounts": true})", false));
  EXPECT_FALSE(matches(R"({"hasBindMounts": false})", false));
  EXPECT_TRUE(matches(R"({"annotations": {"^io\\.example/": "^true$"}})"));
  EXPECT_FALSE(matches(R"({"annotations": {"^other$": "^true$"}})"));
  EXPECT_FALSE(matches(R"({"annotations": {"gpu": "true", "^other$": "true"}})"));
  EXPECT_TRUE(matches(R"({"commands": ["^/bin/", "python\\d$"]})"));
  EXPECT_FALSE(matches(R"({"commands": ["^python"]})"));
  EXPECT_FALSE(matches(R"({"always": true, "commands": ["^python"]})"));
  EXPECT_FALSE(matches(R"({"hasBindMounts": true, "commands": ["python"]})", false));
}

class OciHooksTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/crisp-hooks-XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    top_ = name;
    ASSERT_TRUE(base::MakeDirectories(top_ + "/usr").ok());
    ASSERT_TRUE(base::MakeDirectories(top_ + "/etc").ok());
    hooks_.emplace(std::vector<std::string>{top_ + "/usr", top_ + "/etc"});
  }
  void TearDown() override { std::filesystem::remove_all(top_); }

  void Write(const std::string& file, const std::string& text) const {
    ASSERT_TRUE(base::ReplaceFile(top_ + "/" + file, text, 0644, base::Durability::kVolatile).ok());
  }
  // A hook for all containers, told by its argument.
  void WriteHook(const std::string& file, const std::string& argument,
                 const std::string& program = "/bin/true") const {
    Write(file,
          FileText(R"({"always": true})",
                   base::StrCat(R"({"path": ")", program, R"(", "args": [")", argument, R"("]})")));
  }
  OrderedJson Hooks() {
    OrderedJson spec = OrderedJson::parse(R"({"process": {"args": ["/bin/sh", "-c"]},
                                              "hooks": {"poststop": [{"args": ["cdi"]}]}})");
    hooks_->Apply(pod_, container_, &spec);
    return spec["hooks"];
  }
  std::vector<std::string> Arguments() {
    std::vector<std::string> arguments;
    const OrderedJson hooks = Hooks();
    for (const OrderedJson& hook : hooks.at("poststop")) {
      arguments.push_back(hook.at("args").at(0));
    }
    return arguments;
  }

  std::string top_;
  std::optional<OciHooks> hooks_;
  cri::PodSandboxConfig pod_;
  cri::ContainerConfig container_;
};

TEST_F(OciHooksTest, HooksComeByFileNameAfterThoseOfTheSpec) {
  WriteHook("etc/b.json", "b");
  WriteHook("usr/C.json", "c");
  WriteHook("usr/a.json", "a");
  WriteHook("usr/ignored.yaml", "no");
  EXPECT_THAT(Arguments(), ElementsAre("cdi", "a", "b", "c"));
}

TEST_F(OciHooksTest, TheLaterFoldersFileOfOneNameCounts) {
  WriteHook("usr/a.json", "usr");
  WriteHook("etc/a.json", "etc");
  EXPECT_THAT(Arguments(), ElementsAre("cdi", "etc"));
}

TEST_F(OciHooksTest, AChangeTakesEffectAtOnce) {
  EXPECT_THAT(Arguments(), ElementsAre("cdi"));
  WriteHook("etc/a.json", "one");
  EXPECT_THAT(Arguments(), ElementsAre("cdi", "one"));
  WriteHook("etc/a.json", "two");
  EXPECT_THAT(Arguments(), ElementsAre("cdi", "two"));
  std::filesystem::remove(top_ + "/etc/a.json");
  EXPECT_THAT(Arguments(), ElementsAre("cdi"));
}

TEST_F(OciHooksTest, ABadFileAndAMissingProgramAreLeftOutAndTheRestWorks) {
  WriteHook("etc/a.json", "good");
  WriteHook("etc/b.json", "gone", "/usr/bin/crisp-no-such-hook");
  Write("etc/c.json", "{");
  testing::internal::CaptureStderr();
  EXPECT_THAT(Arguments(), ElementsAre("cdi", "good"));
  const std::string log = testing::internal::GetCapturedStderr();
  EXPECT_THAT(log, HasSubstr("c.json"));
  EXPECT_THAT(log, HasSubstr("crisp-no-such-hook"));
}

TEST_F(OciHooksTest, ThePodsAnnotationsWinAndMountsCount) {
  Write("etc/a.json", FileText(R"({"annotations": {"^hook$": "^pod$"}, "hasBindMounts": true,
                                   "commands": ["^/bin/sh$"]})"));
  (*container_.mutable_annotations())["hook"] = "container";
  container_.add_mounts();
  EXPECT_EQ(Hooks()["poststop"].size(), 1);
  (*pod_.mutable_annotations())["hook"] = "pod";
  EXPECT_EQ(Hooks()["poststop"].size(), 2);
  container_.clear_mounts();
  EXPECT_EQ(Hooks()["poststop"].size(), 1);
}

}  // namespace
}  // namespace runtimeservice
