#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtimeservice/spec/spec_test_input.h"

namespace runtimeservice {
namespace {

using base::OrderedJson;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr char kPath[] = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

class SpecProcessTest : public ::testing::Test, public TestInput {
 protected:
  void AddEnv(const std::string& key, const std::string& value) {
    cri::KeyValue* variable = container.add_envs();
    variable->set_key(key);
    variable->set_value(value);
  }
  std::vector<std::string> Env() const {
    const OrderedJson env = At(Spec(), "/process/env");
    return env.is_array() ? env.get<std::vector<std::string>>() : std::vector<std::string>();
  }
  void ExpectRefused(absl::StatusCode code, const std::string& field) const {
    const absl::Status status = Build().status();
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(field));
  }
};

// What CommandLine makes of each combination; "" for an error.
struct CommandCase {
  std::vector<std::string> command, args, entrypoint, cmd;
  std::vector<std::string> expected;
};

TEST(CommandLineTest, RequestAndImageCombineByTheRules) {
  const CommandCase kCases[] = {
      {{"c"}, {"a"}, {"e"}, {"d"}, {"c", "a"}},
      {{"c"}, {}, {"e"}, {"d"}, {"c"}},
      {{}, {"a"}, {"e"}, {"d"}, {"e", "a"}},
      {{}, {}, {"e"}, {"d"}, {"e", "d"}},
      {{}, {}, {}, {"d"}, {"d"}},
      {{}, {"a"}, {}, {"d"}, {"a"}},
      {{}, {}, {}, {}, {}},
      {{""}, {}, {}, {}, {}},
  };
  for (const CommandCase& test : kCases) {
    cri::ContainerConfig container;
    container.mutable_command()->Add(test.command.begin(), test.command.end());
    container.mutable_args()->Add(test.args.begin(), test.args.end());
    imageservice::ImageProcessConfig image;
    image.entrypoint = test.entrypoint;
    image.cmd = test.cmd;
    const absl::StatusOr<std::vector<std::string>> line = CommandLine(container, image);
    if (test.expected.empty()) {
      EXPECT_TRUE(absl::IsInvalidArgument(line.status()));
    } else {
      EXPECT_EQ(*line, test.expected);
    }
  }
}

TEST_F(SpecProcessTest, RequestOverridesTheImageOverridesTheNode) {
  defaults.env = {"A=node", "B=node", "C=node"};
  image.env = {"B=image", "C=image", "nonsense", "=empty"};
  AddEnv("C", "request=1");
  AddEnv("D", "");
  EXPECT_THAT(Env(), ElementsAre("A=node", "B=image", "C=request=1", "D=", kPath, "HOSTNAME=test"));
}

TEST_F(SpecProcessTest, DefaultsYield) {
  image.env = {"PATH=/bin", "HOSTNAME=mine"};
  container.set_tty(true);
  EXPECT_THAT(Env(), ElementsAre("PATH=/bin", "HOSTNAME=mine", "TERM=xterm"));
  EXPECT_EQ(At(Spec(), "/process/terminal"), true);
}

TEST_F(SpecProcessTest, SenselessVariablesAreRefused) {
  AddEnv("A", "1");
  AddEnv("", "1");
  ExpectRefused(absl::StatusCode::kInvalidArgument, "envs[1]");
  container.mutable_envs(1)->set_key("A=B");
  ExpectRefused(absl::StatusCode::kInvalidArgument, "envs[1]");
  container.mutable_envs(1)->set_key("A");
  container.mutable_envs(1)->set_value(std::string("a\0b", 3));
  ExpectRefused(absl::StatusCode::kInvalidArgument, "envs[1]");
}

TEST_F(SpecProcessTest, WorkingDirectoryIsTheRequestsTheImagesOrTheRoot) {
  EXPECT_EQ(At(Spec(), "/process/cwd"), "/");
  image.working_dir = "relative";
  EXPECT_EQ(At(Spec(), "/process/cwd"), "/relative");
  container.set_working_dir("/request");
  EXPECT_EQ(At(Spec(), "/process/cwd"), "/request");
}

TEST_F(SpecProcessTest, UserIsTheResolvedOne) {
  user = {1000, 1001, {1001, 1234}};
  EXPECT_EQ(At(Spec(), "/process/user"),
            OrderedJson::parse(R"({"uid": 1000, "gid": 1001, "additionalGids": [1001, 1234]})"));
}

TEST_F(SpecProcessTest, CapabilitiesFillThreeSets) {
  mutable_security()->mutable_capabilities()->add_drop_capabilities("ALL");
  mutable_security()->mutable_capabilities()->add_add_capabilities("NET_RAW");
  EXPECT_EQ(At(Spec(), "/process/capabilities"), OrderedJson::parse(R"({
      "bounding": ["CAP_NET_RAW"], "effective": ["CAP_NET_RAW"], "permitted": ["CAP_NET_RAW"],
      "inheritable": [], "ambient": []})"));
}

TEST_F(SpecProcessTest, AmbientCapabilitiesFillAllSets) {
  mutable_security()->mutable_capabilities()->add_drop_capabilities("ALL");
  mutable_security()->mutable_capabilities()->add_add_capabilities("KILL");
  mutable_security()->mutable_capabilities()->add_add_ambient_capabilities("net_raw");
  EXPECT_EQ(At(Spec(), "/process/capabilities"), OrderedJson::parse(R"({
      "bounding": ["CAP_KILL", "CAP_NET_RAW"], "effective": ["CAP_KILL", "CAP_NET_RAW"],
      "permitted": ["CAP_KILL", "CAP_NET_RAW"],
      "inheritable": ["CAP_NET_RAW"], "ambient": ["CAP_NET_RAW"]})"));
}

TEST_F(SpecProcessTest, LimitsAreTheConfiguredOnes) {
  EXPECT_EQ(At(Spec(), "/process/rlimits"), nullptr);
  defaults.ulimits = {{"RLIMIT_NOFILE", 1024, 4096}};
  EXPECT_EQ(At(Spec(), "/process/rlimits"),
            OrderedJson::parse(R"([{"type": "RLIMIT_NOFILE", "hard": 4096, "soft": 1024}])"));
}

TEST_F(SpecProcessTest, OomScoreIsAlwaysGiven) {
  EXPECT_EQ(At(Spec(), "/process/oomScoreAdj"), 0);
  container.mutable_linux()->mutable_resources()->set_oom_score_adj(-997);
  EXPECT_EQ(At(Spec(), "/process/oomScoreAdj"), -997);
  host.min_oom_score_adj = -500;
  EXPECT_EQ(At(Spec(), "/process/oomScoreAdj"), -500);
}

TEST_F(SpecProcessTest, NoNewPrivilegesIsPassedOn) {
  EXPECT_EQ(At(Spec(), "/process/noNewPrivileges"), false);
  mutable_security()->set_no_new_privs(true);
  EXPECT_EQ(At(Spec(), "/process/noNewPrivileges"), true);
}

TEST_F(SpecProcessTest, SelinuxLabelsArePassedOn) {
  EXPECT_EQ(At(Spec(), "/process/selinuxLabel"), nullptr);
  EXPECT_EQ(At(Spec(), "/linux/mountLabel"), nullptr);
  selinux = {"u:r:t:s0", "u:object_r:f:s0"};
  EXPECT_EQ(At(Spec(), "/process/selinuxLabel"), "u:r:t:s0");
  EXPECT_EQ(At(Spec(), "/linux/mountLabel"), "u:object_r:f:s0");
}

TEST_F(SpecProcessTest, AppArmorProfileIsPassedOn) {
  EXPECT_EQ(At(Spec(), "/process/apparmorProfile"), nullptr);
  apparmor_profile = "mine";
  EXPECT_EQ(At(Spec(), "/process/apparmorProfile"), "mine");
}

}  // namespace
}  // namespace runtimeservice
