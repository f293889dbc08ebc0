#include "conmon/options.h"

#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace conmon {
namespace {

struct Parsed {
  ParseResult result;
  Options options;
  std::string error;
};

Parsed Parse(std::vector<std::string>& arguments) {
  static std::vector<char*> argv;
  argv = {const_cast<char*>("crisp-monitor")};
  for (std::string& argument : arguments) {
    argv.push_back(argument.data());
  }
  argv.push_back(nullptr);
  Parsed parsed = {};
  const char* error = nullptr;
  const char* argument = nullptr;
  parsed.result = ParseOptions(static_cast<int>(argv.size()) - 1, argv.data(), &parsed.options,
                               &error, &argument);
  parsed.error = parsed.result == ParseResult::kError ? std::string(error) + argument : "";
  return parsed;
}

std::vector<std::string> Whole() {
  return {"--id", "c1", "--bundle",      "/b",     "--state-dir",
          "/s",   "--", "/usr/bin/crun", "--root", "/r"};
}

TEST(OptionsTest, EverythingIsTaken) {
  std::vector<std::string> arguments = {"--log",        "/log",           "--terminal", "--stdin",
                                        "--stdin-once", "--cgroup",       "/c1",        "--cgroup",
                                        "/c2",          "--handshake-fd", "7"};
  const std::vector<std::string> rest = Whole();
  arguments.insert(arguments.end(), rest.begin(), rest.end());
  const Parsed parsed = Parse(arguments);
  ASSERT_EQ(parsed.result, ParseResult::kRun) << parsed.error;
  EXPECT_STREQ(parsed.options.id, "c1");
  EXPECT_STREQ(parsed.options.bundle, "/b");
  EXPECT_STREQ(parsed.options.state_dir, "/s");
  EXPECT_STREQ(parsed.options.log, "/log");
  EXPECT_TRUE(parsed.options.terminal);
  EXPECT_TRUE(parsed.options.has_stdin);
  EXPECT_TRUE(parsed.options.stdin_once);
  EXPECT_EQ(parsed.options.handshake_fd, 7);
  ASSERT_EQ(parsed.options.cgroup_count, 2u);
  EXPECT_STREQ(parsed.options.cgroups[1], "/c2");
  ASSERT_EQ(parsed.options.runtime_count, 3u);
  EXPECT_STREQ(parsed.options.runtime[0], "/usr/bin/crun");
}

TEST(OptionsTest, DefaultsDiscardOutputAndHaveNoStdin) {
  std::vector<std::string> arguments = Whole();
  const Parsed parsed = Parse(arguments);
  ASSERT_EQ(parsed.result, ParseResult::kRun) << parsed.error;
  EXPECT_STREQ(parsed.options.log, "");
  EXPECT_FALSE(parsed.options.terminal);
  EXPECT_FALSE(parsed.options.has_stdin);
  EXPECT_EQ(parsed.options.handshake_fd, 3);
}

TEST(OptionsTest, OptionsOfTheRuntimeAreNotOurs) {
  std::vector<std::string> arguments = Whole();
  arguments.push_back("--help");
  EXPECT_EQ(Parse(arguments).result, ParseResult::kRun);
}

TEST(OptionsTest, EachMissingPartIsNamed) {
  for (const auto& [at, count, words] :
       {std::tuple(0, 2, "--id"), std::tuple(2, 2, "--bundle"), std::tuple(4, 2, "--state-dir"),
        std::tuple(7, 3, "runtime"), std::tuple(6, 4, "runtime")}) {
    std::vector<std::string> arguments = Whole();
    arguments.erase(arguments.begin() + at, arguments.begin() + at + count);
    const Parsed parsed = Parse(arguments);
    EXPECT_EQ(parsed.result, ParseResult::kError);
    EXPECT_NE(parsed.error.find(words), std::string::npos) << parsed.error;
  }
}

TEST(OptionsTest, NonsenseIsNamed) {
  for (const std::vector<std::string>& wrong : {std::vector<std::string>{"--what", "x"},
                                                {"--handshake-fd", "x"},
                                                {"--handshake-fd", "-1"},
                                                {"--log", "relative"}}) {
    std::vector<std::string> arguments = wrong;
    const std::vector<std::string> rest = Whole();
    arguments.insert(arguments.end(), rest.begin(), rest.end());
    EXPECT_EQ(Parse(arguments).result, ParseResult::kError) << wrong[0] << wrong[1];
  }
  std::vector<std::string> no_value = {"--id"};
  EXPECT_EQ(Parse(no_value).error, "missing value of --id");
}

TEST(OptionsTest, TooManyCgroupsAreRefused) {
  std::vector<std::string> arguments;
  for (int i = 0; i < 33; ++i) {
    arguments.insert(arguments.end(), {"--cgroup", "/c"});
  }
  const std::vector<std::string> rest = Whole();
  arguments.insert(arguments.end(), rest.begin(), rest.end());
  EXPECT_EQ(Parse(arguments).result, ParseResult::kError);
}

}  // namespace
}  // namespace conmon
