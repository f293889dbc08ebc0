#include "imageservice/pull_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "base/files.h"
#include "base/strings.h"
#include "imageservice/testing/temp_directory.h"

namespace imageservice {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;

constexpr char kReject[] = R"({"default": [{"type": "reject"}]})";
constexpr char kAccept[] = R"({"default": [{"type": "insecureAcceptAnything"}]})";

class PullPlanTest : public ::testing::Test {
 protected:
  PullPlanTest() : launcher_("", "") {
    settings_.files.paths = {directory_ / "registries.conf"};
    settings_.certificate_directories = {directory_ / "certs"};
    settings_.hosts_directories = {directory_ / "hosts"};
    settings_.auth.global_file = directory_ / "auth.json";
    settings_.auth.namespaced_directory = directory_ / "auth";
    settings_.helpers.directories = {directory_.path()};
    settings_.policy_file = directory_ / "policy.json";
    settings_.policy_directory = directory_ / "policies";
  }

  void Write(const std::string& name, const std::string& text, mode_t mode = 0644) {
    const std::string path = directory_ / name;
    ASSERT_TRUE(base::MakeDirectories(path.substr(0, path.rfind('/'))).ok());
    ASSERT_TRUE(base::ReplaceFile(path, text, mode, base::Durability::kVolatile).ok());
  }
  absl::StatusOr<PullPlan> Plan(const std::string& image, const cri::AuthConfig& auth = {},
                                const std::string& pod_namespace = "") {
    if (planner_ == nullptr) {
      planner_ = std::make_unique<PullPlanner>(settings_, &launcher_);
    }
    cri::PullImageRequest request;
    request.mutable_image()->set_image(image);
    *request.mutable_auth() = auth;
    request.mutable_sandbox_config()->mutable_metadata()->set_namespace_(pod_namespace);
    return planner_->Plan(base::Context(), request);
  }
  std::string Failure(const std::string& image, const cri::AuthConfig& auth = {},
                      const std::string& pod_namespace = "") {
    return std::string(Plan(image, auth, pod_namespace).status().message());
  }
  static std::vector<std::string> Urls(const PullPlan& plan) {
    std::vector<std::string> urls;
    for (const PullSource& source : plan.sources) {
      const std::string& registry = source.endpoint.registry_namespace;
      urls.push_back(base::StrCat(source.endpoint.base_url, " ", source.endpoint.repository,
                                  registry.empty() ? "" : " ns=", registry));
    }
    return urls;
  }
  static std::vector<std::string> Users(const PullPlan& plan) {
    std::vector<std::string> users;
    for (const PullSource& source : plan.sources) {
      users.push_back(source.endpoint.credentials.username);
    }
    return users;
  }
  static cri::AuthConfig Request(const std::string& server_address = "") {
    cri::AuthConfig auth;
    auth.set_username("request");
    auth.set_password("hunter2");
    auth.set_server_address(server_address);
    return auth;
  }

  testing::TempDirectory directory_;
  base::Launcher launcher_;
  RegistrySettings settings_;
  std::unique_ptr<PullPlanner> planner_;
};

TEST_F(PullPlanTest, DockerHubIsAskedAtItsRealHost) {
  EXPECT_THAT(Urls(*Plan("busybox")),
              ElementsAre("https://registry-1.docker.io/v2 library/busybox"));
}

TEST_F(PullPlanTest, InsecureServersAreAskedByHttpsFirst) {
  settings_.insecure_registries = {"r.io:5000"};
  const PullPlan plan = Plan("r.io:5000/a").value();
  EXPECT_THAT(Urls(plan), ElementsAre("https://r.io:5000/v2 a", "http://r.io:5000/v2 a"));
  EXPECT_TRUE(plan.sources[0].endpoint.insecure);
}

TEST_F(PullPlanTest, ImagesAreCalledAsTheUserCallsThemWhereverTheyComeFrom) {
  Write("registries.conf",
        "unqualified-search-registries = [\"q.io\", \"docker.io\"]\n"
        "[[registry]]\nlocation = \"q.io\"\n"
        "[[registry.mirror]]\nlocation = \"m.io/cache\"\n");
  const PullPlan plan = Plan("app:1").value();
  EXPECT_THAT(Urls(plan), ElementsAre("https://m.io/v2 cache/app", "https://q.io/v2 app",
                                      "https://registry-1.docker.io/v2 library/app"));
  EXPECT_EQ(plan.sources[0].name.str(), "q.io/app:1");
  EXPECT_EQ(plan.sources[2].name.str(), "docker.io/library/app:1");
}

TEST_F(PullPlanTest, ABlockedSearchRegistryLeavesTheOthers) {
  Write("registries.conf",
        "unqualified-search-registries = [\"q.io\", \"r.io\"]\n"
        "[[registry]]\nlocation = \"q.io\"\nblocked = true\n");
  EXPECT_THAT(Urls(*Plan("app")), ElementsAre("https://r.io/v2 app"));
  EXPECT_TRUE(absl::IsPermissionDenied(Plan("q.io/app").status()));
}

TEST_F(PullPlanTest, HostsComeBeforeTheRegistryTheyStandFor) {
  Write("registries.conf",
        "[[registry]]\nprefix = \"a.io\"\nlocation = \"b.io/x\"\n"
        "[[registry.mirror]]\nlocation = \"m.io\"\n");
  Write("hosts/b.io/hosts.toml", R"(
    [host."https://h1.io:5000/cache"]
    capabilities = ["pull"]
    dial_timeout = "3s"
    [host."https://h1.io:5000/cache".header]
    X-Key = "k"
    [host."http://h2.io/raw"]
    override_path = true
    [host."https://push.io"]
    capabilities = ["push"]
  )");
  const PullPlan plan = Plan("a.io/app:1").value();
  EXPECT_THAT(Urls(plan),
              ElementsAre("https://m.io/v2 app", "https://h1.io:5000/cache/v2 x/app ns=b.io",
                          "http://h2.io/raw x/app ns=b.io", "https://b.io/v2 x/app"));
  const worker::Endpoint& first = plan.sources[1].endpoint;
  EXPECT_TRUE(first.can_pull);
  EXPECT_FALSE(first.can_resolve);
  EXPECT_EQ(first.connect_timeout_seconds, 3);
  EXPECT_THAT(first.headers, ElementsAre("X-Key: k"));
  EXPECT_FALSE(first.insecure);
  EXPECT_TRUE(plan.sources[2].endpoint.insecure);
  EXPECT_THAT(plan.sources[3].endpoint.headers, IsEmpty());
  EXPECT_EQ(plan.sources[1].name.str(), "a.io/app:1");
}

TEST_F(PullPlanTest, AServerInHostsTomlReplacesTheRegistry) {
  Write("hosts/docker.io/hosts.toml",
        "server = \"https://registry-1.docker.io\"\nskip_verify = true");
  Write("hosts/q.io/hosts.toml", "server = \"https://proxy.io/q\"");
  Write("hosts/localhost:5000/hosts.toml", "");
  const PullPlan hub = Plan("busybox").value();
  EXPECT_THAT(Urls(hub), ElementsAre("https://registry-1.docker.io/v2 library/busybox"));
  EXPECT_TRUE(hub.sources[0].endpoint.insecure);
  EXPECT_THAT(Urls(*Plan("q.io/a")), ElementsAre("https://proxy.io/q/v2 a ns=q.io"));
  EXPECT_THAT(Urls(*Plan("localhost:5000/a")),
              ElementsAre("https://localhost:5000/v2 a", "http://localhost:5000/v2 a"));
  EXPECT_THAT(Urls(*Plan("localhost:5001/a")), ElementsAre("https://localhost:5001/v2 a"));
  Write("hosts/q.io/hosts.toml", "capabilities = [\"push\"]");
  EXPECT_THAT(Failure("q.io/a"), HasSubstr("leaves no server to ask"));
  Write("hosts/q.io/hosts.toml", "server = 3");
  EXPECT_THAT(Failure("q.io/a"), HasSubstr("hosts/q.io/hosts.toml:1: server is an integer"));
}

TEST_F(PullPlanTest, OnlyThisMachineIsAskedByHttpUnasked) {
  Write("hosts/_default/hosts.toml", "");
  for (const std::string host : {"localhost", "127.0.0.1", "127.1.2.3:5000", "[::1]:5000"}) {
    EXPECT_EQ(Plan(host + "/a")->sources.size(), 2u) << host;
  }
  for (const std::string host : {"127.0.0.1.example.com", "127.example.com",
                                 "localhost.example.com", "10.0.0.1", "[::2]", "[::1:0]"}) {
    EXPECT_EQ(Plan(host + "/a")->sources.size(), 1u) << host;
  }
}

TEST_F(PullPlanTest, TheRequestsCredentialsComeBeforeTheFilesAndStayAwayFromMirrors) {
  Write("registries.conf",
        "[[registry]]\nlocation = \"q.io\"\n[[registry.mirror]]\nlocation = \"m.io\"\n");
  Write("hosts/q.io/hosts.toml", "[host.\"https://h.io\"]");
  Write("auth.json", R"({"auths":{"q.io":{"auth":"ZmlsZTpw"},"m.io":{"auth":"bWlycm9yOnA="},
                                  "h.io/a":{"auth":"aG9zdDpw"}}})");
  EXPECT_THAT(Users(*Plan("q.io/a", Request())), ElementsAre("mirror", "host", "request"));
  EXPECT_THAT(Users(*Plan("q.io/a")), ElementsAre("mirror", "host", "file"));
  EXPECT_THAT(Users(*Plan("q.io/b", Request("https://m.io"))), ElementsAre("request", "", "file"));
  EXPECT_THAT(Users(*Plan("q.io/a", Request("other.io"))), ElementsAre("mirror", "host", "file"));
}

TEST_F(PullPlanTest, AMirrorThatMayHaveTheCredentialsGetsThem) {
  Write("registries.conf",
        "[[registry]]\nlocation = \"q.io\"\n"
        "[[registry.mirror]]\nlocation = \"m.io\"\npass_credentials = true\n"
        "[[registry.mirror]]\nlocation = \"n.io\"\n"
        "[[registry]]\nprefix = \"old.io\"\nlocation = \"new.io\"\n"
        "[[registry]]\nprefix = \"old.io/x\"\nlocation = \"new.io/x\"\npass_credentials = true\n");
  Write("hosts/q.io/hosts.toml",
        "[host.\"https://h.io\"]\npass_credentials = true\n[host.\"https://i.io\"]\n");
  EXPECT_THAT(Users(*Plan("q.io/a", Request())),
              ElementsAre("request", "", "request", "", "request"));
  EXPECT_THAT(Users(*Plan("q.io/a", Request("other.io"))), ElementsAre("", "", "", "", ""));
  EXPECT_THAT(Users(*Plan("old.io/a", Request())), ElementsAre(""));
  EXPECT_THAT(Users(*Plan("old.io/x/a", Request())), ElementsAre("request"));
}

TEST_F(PullPlanTest, AMirrorsHelperThatFailsDoesNotFailThePull) {
  Write("registries.conf",
        "[[registry]]\nlocation = \"q.io\"\n[[registry.mirror]]\nlocation = \"m.io\"\n");
  Write("docker-credential-bad", "#!/bin/sh\necho hunter2; exit 1\n", 0755);
  Write("auth.json", R"({"credHelpers": {"m.io": "bad"}})");
  EXPECT_THAT(Users(*Plan("q.io/a")), ElementsAre("", ""));
  Write("auth.json", R"({"credHelpers": {"q.io": "bad"}})");
  EXPECT_THAT(Failure("q.io/a"),
              AllOf(HasSubstr("auth.json: credential helper docker-credential-bad for q.io"),
                    Not(HasSubstr("hunter2"))));
  // Whoever brings credentials needs no helper.
  EXPECT_THAT(Users(*Plan("q.io/a", Request())), ElementsAre("", "request"));
}

TEST_F(PullPlanTest, CertificatesAreThoseOfTheHost) {
  Write("certs/r.io:5000/ca.crt", "CA");
  Write("certs/r.io:5000/us.cert", "CERT");
  Write("certs/r.io:5000/us.key", "KEY");
  const worker::Endpoint endpoint = Plan("r.io:5000/a")->sources[0].endpoint;
  EXPECT_EQ(endpoint.ca_pem, "CA\n");
  EXPECT_EQ(endpoint.client_certificate_pem, "CERT");
  EXPECT_EQ(endpoint.client_key_pem, "KEY");
  EXPECT_EQ(Plan("r.io/a")->sources[0].endpoint.ca_pem, "");
  // hosts.toml adds authorities, and its own certificate of ours comes first.
  Write("hosts/q.io/other.crt", "OTHER");
  Write("hosts/q.io/own.pem", "OWN");
  Write("hosts/q.io/hosts.toml",
        "[host.\"https://r.io:5000\"]\nca = \"other.crt\"\nclient = \"own.pem\"\n");
  const worker::Endpoint host = Plan("q.io/a")->sources[0].endpoint;
  EXPECT_EQ(host.ca_pem, "OTHER\nCA\n");
  EXPECT_EQ(host.client_certificate_pem, "OWN");
  EXPECT_EQ(host.client_key_pem, "OWN");
  ASSERT_TRUE(base::RemoveFile(directory_ / "certs/r.io:5000/us.key").ok());
  EXPECT_THAT(Failure("r.io:5000/a"), HasSubstr("has no key"));
  ASSERT_TRUE(base::RemoveFile(directory_ / "certs/r.io:5000/us.cert").ok());
  Write("certs/r.io:5000/us.key", "KEY");
  EXPECT_THAT(Failure("r.io:5000/a"), HasSubstr("us.cert is missing"));
}

TEST_F(PullPlanTest, ThePolicyDecidesBeforeAnybodyIsAsked) {
  Write("policy.json", kReject);
  EXPECT_THAT(Failure("q.io/a"), AllOf(StartsWith("SignatureValidationFailed: q.io/a:latest"),
                                       HasSubstr("policy.json (\"default\")")));
  EXPECT_TRUE(absl::IsPermissionDenied(Plan("q.io/a").status()));
  Write("policy.json", "{}");
  EXPECT_THAT(Failure("q.io/a"), StartsWith(directory_ / "policy.json: "));
  ASSERT_TRUE(base::RemoveFile(directory_ / "policy.json").ok());
  EXPECT_TRUE(Plan("q.io/a").ok());
}

TEST_F(PullPlanTest, AConfiguredPolicyMustBeThere) {
  settings_.policy_required = true;
  EXPECT_THAT(Failure("q.io/a"), HasSubstr("policy.json is missing"));
}

TEST_F(PullPlanTest, ANamespacesPolicyCountsForItsPods) {
  Write("policy.json", kReject);
  Write("policies/team.json", kAccept);
  EXPECT_TRUE(Plan("q.io/a", {}, "team").ok());
  EXPECT_FALSE(Plan("q.io/a", {}, "other").ok());
  EXPECT_FALSE(Plan("q.io/a").ok());
  for (const std::string name : {"../policies/team", "..", "a/b", "Team"}) {
    EXPECT_THAT(Failure("q.io/a", {}, name), HasSubstr("namespace is malformed")) << name;
  }
}

TEST_F(PullPlanTest, ThePolicyChoosesAmongSearchRegistries) {
  Write("registries.conf", "unqualified-search-registries = [\"q.io\", \"r.io\"]\n");
  Write("policy.json", R"({"default": [{"type": "reject"}], "transports": {"docker":
                           {"r.io": [{"type": "insecureAcceptAnything"}]}}})");
  EXPECT_THAT(Urls(*Plan("app")), ElementsAre("https://r.io/v2 app"));
  Write("policy.json", kReject);
  EXPECT_THAT(Failure("app"), AllOf(StartsWith("SignatureValidationFailed: q.io/app:latest"),
                                    HasSubstr("; SignatureValidationFailed: r.io/app:latest")));
}

TEST_F(PullPlanTest, ANamespacesCredentialsServeOnePull) {
  const std::string name =
      "auth/team-9d1e243a370d796821703defb72f477f8800c4321c055b247a9664a352d86046.json";
  Write(name, R"({"auths":{"docker.io":{"auth":"dGVhbTpw"}}})");
  EXPECT_THAT(Users(*Plan("busybox:1", {}, "other")), ElementsAre(""));
  EXPECT_THAT(Users(*Plan("busybox:1", {}, "team")), ElementsAre("team"));
  EXPECT_FALSE(base::Exists(directory_ / name));
  EXPECT_THAT(Users(*Plan("busybox:1", {}, "team")), ElementsAre(""));
}

TEST_F(PullPlanTest, BadRequestsAreRefusedWithoutTheirSecrets) {
  EXPECT_TRUE(absl::IsInvalidArgument(Plan("Not A Name").status()));
  cri::AuthConfig auth;
  auth.set_auth("%%hunter2%%");
  EXPECT_TRUE(absl::IsInvalidArgument(Plan("q.io/a", auth).status()));
  EXPECT_THAT(Failure("q.io/a", auth), Not(HasSubstr("hunter2")));
}

TEST(HostPlatformTest, NamesAreGos) {
  const worker::Platform platform = HostPlatform();
  EXPECT_EQ(platform.os, "linux");
#if defined(__x86_64__)
  EXPECT_EQ(platform.architecture, "amd64");
  EXPECT_EQ(platform.variant, "");
#elif defined(__aarch64__)
  EXPECT_EQ(platform.architecture, "arm64");
#endif
}

}  // namespace
}  // namespace imageservice
