#include "imageservice/node_credentials.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "base/files.h"
#include "base/strings.h"
#include "imageservice/testing/temp_directory.h"

namespace imageservice {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

std::vector<std::string> Paths(const std::map<std::string, std::string>& environment,
                               unsigned user_id) {
  std::vector<std::string> paths;
  const auto variable = [&](const char* name) {
    const auto found = environment.find(name);
    return found == environment.end() ? std::string() : found->second;
  };
  for (const AuthFileLocation& location : DefaultAuthFiles(variable, user_id)) {
    paths.push_back(location.path);
  }
  return paths;
}

TEST(DefaultAuthFilesTest, TheyAreWherePodmanAndDockerKeepThem) {
  EXPECT_THAT(Paths({}, 0),
              ElementsAre("/run/containers/0/auth.json", "/root/.config/containers/auth.json",
                          "/root/.docker/config.json", "/root/.dockercfg"));
  EXPECT_THAT(Paths({{"HOME", "/h"},
                     {"XDG_RUNTIME_DIR", "/r"},
                     {"XDG_CONFIG_HOME", "/c"},
                     {"DOCKER_CONFIG", "/d"}},
                    0),
              ElementsAre("/r/containers/auth.json", "/c/containers/auth.json", "/d/config.json",
                          "/h/.dockercfg"));
  EXPECT_THAT(Paths({}, 7), ElementsAre("/run/containers/7/auth.json"));
}

// {"auths": {"<registry>": …}} with that user and the password "hunter2".
std::string Auths(const std::string& registry, const std::string& auth) {
  return base::StrCat(R"({"auths": {")", registry, R"(": {"auth": ")", auth, "\"}}}");
}
constexpr char kA[] = "YTpodW50ZXIy";  // a:hunter2
constexpr char kB[] = "YjpodW50ZXIy";  // b:hunter2

class NodeCredentialsTest : public ::testing::Test {
 protected:
  NodeCredentialsTest()
      : launcher_("", ""), helpers_({.directories = {directory_.path()}}, &launcher_) {
    settings_.namespaced_directory = directory_.path();
    settings_.default_files = {{directory_ / "one.json"},
                               {directory_ / "two.json"},
                               {directory_ / "old.cfg", AuthFile::Format::kDockercfg}};
  }

  void Write(const std::string& name, const std::string& text, mode_t mode = 0600) {
    ASSERT_TRUE(base::ReplaceFile(directory_ / name, text, mode, base::Durability::kVolatile).ok());
  }
  void InstallHelper(const std::string& name, const std::string& script) {
    Write("docker-credential-" + name, "#!/bin/sh\n" + script, 0755);
  }
  NodeCredentials Make(std::vector<std::string> order = {"containers-auth.json"}) {
    warnings_.clear();
    return NodeCredentials(settings_, std::move(order), &helpers_,
                           [this](const std::string& text) { warnings_.push_back(text); });
  }
  // The user for a registry, "" for nobody, or what went wrong.
  static std::string User(NodeCredentials credentials, const std::string& registry) {
    const auto found = credentials.Find(base::Context(), registry, "team/app");
    return found.ok() ? found->username : std::string(found.status().message());
  }

  testing::TempDirectory directory_;
  base::Launcher launcher_;
  CredentialHelpers helpers_;
  AuthSettings settings_;
  std::vector<std::string> warnings_;
};

TEST_F(NodeCredentialsTest, TheFirstFileThatHasSomeCounts) {
  EXPECT_EQ(User(Make(), "q.io"), "");
  Write("two.json", Auths("q.io", kB));
  EXPECT_EQ(User(Make(), "q.io"), "b");
  Write("one.json", Auths("q.io", kA));
  EXPECT_EQ(User(Make(), "q.io"), "a");
  Write("one.json", Auths("r.io", kA));
  EXPECT_EQ(User(Make(), "q.io"), "b");
  Write("old.cfg", R"({"old.io": {"auth": "YTpodW50ZXIy"}})");
  EXPECT_EQ(User(Make(), "old.io"), "a");
  EXPECT_THAT(warnings_, IsEmpty());
}

TEST_F(NodeCredentialsTest, AConfiguredFileIsTheOnlyOne) {
  Write("one.json", Auths("q.io", kA));
  settings_.global_file = directory_ / "global.json";
  EXPECT_EQ(User(Make(), "q.io"), "");
  Write("global.json", Auths("r.io", kB));
  EXPECT_EQ(User(Make(), "q.io"), "");
  EXPECT_EQ(User(Make(), "r.io"), "b");
}

TEST_F(NodeCredentialsTest, ABrokenFileIsAnErrorIfSomebodyConfiguredIt) {
  Write("one.json", "hunter2");
  Write("two.json", Auths("q.io", kB));
  EXPECT_EQ(User(Make(), "q.io"), "b");
  EXPECT_THAT(warnings_, ElementsAre(HasSubstr("one.json: not a JSON object: ignored")));
  settings_.global_file = directory_ / "one.json";
  EXPECT_EQ(User(Make(), "q.io"), (directory_ / "one.json") + ": not a JSON object");
  Write("one.json", Auths("q.io", "aHVudGVyMg=="));
  EXPECT_THAT(User(Make(), "q.io"), HasSubstr("the entry for q.io makes no sense"));
  EXPECT_EQ(User(Make(), "r.io"), "");
}

TEST_F(NodeCredentialsTest, AHelperIsAskedBeforeTheEntries) {
  InstallHelper("x", R"(echo '{"Username": "helped", "Secret": "hunter2"}')");
  InstallHelper("none", "echo 'credentials not found'; exit 1");
  Write("one.json", R"({"credHelpers": {"q.io": "x", "r.io": "none"},
                        "auths": {"q.io": {"auth": "YTpodW50ZXIy"},
                                  "r.io": {"auth": "YTpodW50ZXIy"}}})");
  EXPECT_EQ(User(Make(), "q.io"), "helped");
  EXPECT_EQ(User(Make(), "r.io"), "a");
}

TEST_F(NodeCredentialsTest, AFailingHelperIsAnErrorIfSomebodyConfiguredIt) {
  InstallHelper("bad", "echo hunter2; exit 7");
  Write("one.json", R"({"credsStore": "bad"})");
  Write("two.json", Auths("q.io", kB));
  EXPECT_EQ(User(Make(), "q.io"), "b");
  EXPECT_THAT(warnings_, ElementsAre(HasSubstr("docker-credential-bad for q.io")));
  settings_.global_file = directory_ / "one.json";
  EXPECT_THAT(User(Make(), "q.io"), HasSubstr("one.json: credential helper docker-credential-bad"));
  EXPECT_THAT(User(Make(), "q.io"), Not(HasSubstr("hunter2")));
}

TEST_F(NodeCredentialsTest, TheConfigurationsOrderDecides) {
  InstallHelper("x", R"(read -r server
    [ "$server" = q.io ] || { echo 'credentials not found'; exit 1; }
    echo '{"Username": "helped", "Secret": "hunter2"}')");
  Write("one.json", R"({"auths": {"q.io": {"auth": "YTpodW50ZXIy"},
                                  "r.io": {"auth": "YTpodW50ZXIy"}}})");
  EXPECT_EQ(User(Make({"x", "containers-auth.json"}), "q.io"), "helped");
  EXPECT_EQ(User(Make({"x", "containers-auth.json"}), "r.io"), "a");
  EXPECT_EQ(User(Make({"containers-auth.json", "x"}), "q.io"), "a");
  EXPECT_EQ(User(Make({}), "q.io"), "");
}

TEST_F(NodeCredentialsTest, ANamespacesFileCountsAloneAndForOnePull) {
  const std::string repository = "docker.io/library/busybox";
  const std::string name =
      "team-9d1e243a370d796821703defb72f477f8800c4321c055b247a9664a352d86046.json";
  Write("one.json", R"({"auths": {"q.io": {"auth": "YTpodW50ZXIy"}}})");
  Write(name, Auths("docker.io", kB));

  NodeCredentials other = Make();
  ASSERT_TRUE(other.UseNamespaced("other", repository).ok());
  EXPECT_EQ(User(std::move(other), "q.io"), "a");

  NodeCredentials credentials = Make({"containers-auth.json", "missing-helper"});
  ASSERT_TRUE(credentials.UseNamespaced("team", repository).ok());
  EXPECT_EQ(User(credentials, "docker.io"), "b");
  EXPECT_EQ(User(credentials, "q.io"), "");
  EXPECT_FALSE(base::Exists(directory_ / name));

  NodeCredentials next = Make();
  ASSERT_TRUE(next.UseNamespaced("team", repository).ok());
  EXPECT_EQ(User(next, "docker.io"), "");

  Write(name, "hunter2");
  const absl::Status broken = Make().UseNamespaced("team", repository);
  EXPECT_THAT(std::string(broken.message()), HasSubstr(name));
  EXPECT_THAT(std::string(broken.message()), Not(HasSubstr("hunter2")));
}

}  // namespace
}  // namespace imageservice
