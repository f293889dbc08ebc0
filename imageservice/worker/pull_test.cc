// The real crisp-pull against a real registry.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>
#include <utility>

#include "base/files.h"
#include "base/strings.h"
#include "imageservice/worker/digest.h"
#include "imageservice/worker/test_certificates.h"
#include "imageservice/worker/test_daemon.h"
#include "imageservice/worker/test_registry.h"
#include "imageservice/worker/test_server.h"

namespace imageservice::worker {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

// A registry that every test of this kind pushes to.
class RegistryPullTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) {
      GTEST_SKIP() << "SKIP: root";
    }
    if (!base::Exists("/usr/bin/docker-registry") || !base::Exists("/usr/bin/skopeo")) {
      GTEST_SKIP() << "SKIP: docker-registry and skopeo";
    }
  }

  void StartRegistry(const std::string& password = "",
                     TestRegistry::Scheme scheme = TestRegistry::Scheme::kHttp) {
    auto registry = TestRegistry::Start(password, scheme);
    ASSERT_TRUE(registry.ok()) << registry.status();
    registry_ = *std::move(registry);
  }

  void ExpectSampleImage(const PullOutcome& outcome) {
    ASSERT_TRUE(outcome.status.ok()) << outcome.status;
    ASSERT_EQ(outcome.layers.size(), 3u);
    EXPECT_EQ(base::ReadFile(daemon_.LayerPath(outcome, 0) + "/etc/motd").value_or(""), "gzip");
    EXPECT_EQ(base::ReadFile(daemon_.LayerPath(outcome, 0) + "/e\xcc\x81").value_or(""), "x");
    EXPECT_EQ(base::ReadFile(daemon_.LayerPath(outcome, 1) + "/big").value_or(""), BigText());
    struct stat found = {};
    ASSERT_EQ(lstat((daemon_.LayerPath(outcome, 1) + "/etc/motd").c_str(), &found), 0);
    EXPECT_TRUE(S_ISCHR(found.st_mode) && found.st_rdev == 0) << "a whiteout";
    ASSERT_EQ(lstat((daemon_.LayerPath(outcome, 2) + "/su").c_str(), &found), 0);
    EXPECT_EQ(found.st_mode & 07777, 04755u);
    EXPECT_EQ(outcome.questions[2].chain_id,
              ChainId(outcome.questions[2].parent, outcome.questions[2].diff_id));
    EXPECT_EQ(outcome.questions[2].parent, outcome.questions[1].chain_id);
    EXPECT_EQ(outcome.resolved->image_id, Sha256Hex(outcome.resolved->config));
    EXPECT_EQ(outcome.progress.bytes_done, outcome.progress.bytes_total);
    EXPECT_THAT(outcome.warnings, testing::IsEmpty());
  }

  TestDaemon daemon_;
  TempDirectory layout_directory_;
  TestLayout layout_{layout_directory_.path()};
  std::unique_ptr<TestRegistry> registry_;
};

TEST_F(RegistryPullTest, PullsAnOciImageWithAllCompressions) {
  StartRegistry();
  layout_.Finish(AddSampleImage(&layout_));
  const absl::Status pushed = registry_->Push(layout_directory_.path(), "team/app:1");
  ASSERT_TRUE(pushed.ok()) << pushed;
  const PullOutcome outcome = daemon_.Pull(daemon_.Request(registry_->url(), "team/app", "1"));
  ExpectSampleImage(outcome);
  EXPECT_EQ(outcome.resolved->media_type, "application/vnd.oci.image.manifest.v1+json");
  EXPECT_EQ(outcome.resolved->manifest_digest, "sha256:" + Sha256Hex(outcome.resolved->manifest));
  EXPECT_EQ(outcome.resolved->index_digest, "");
}

TEST_F(RegistryPullTest, PullsDockerSchema2) {
  StartRegistry();
  layout_.Finish(
      layout_.AddImage({GzipLayer({{.name = "f", .content = "docker"}})}, "linux", "amd64"));
  const absl::Status pushed = registry_->Push(layout_directory_.path(), "app:1", {"--format=v2s2"});
  ASSERT_TRUE(pushed.ok()) << pushed;
  const PullOutcome outcome = daemon_.Pull(daemon_.Request(registry_->url(), "app", "1"));
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  EXPECT_EQ(outcome.resolved->media_type, "application/vnd.docker.distribution.manifest.v2+json");
  EXPECT_EQ(base::ReadFile(daemon_.LayerPath(outcome, 0) + "/f").value_or(""), "docker");
}

TEST_F(RegistryPullTest, ChoosesThePlatformOfAnIndex) {
  StartRegistry();
  const TestLayout::Blob own = AddSampleImage(&layout_);
  const TestLayout::Blob other = AddSampleImage(&layout_, "s390x");
  const TestLayout::Blob index = layout_.AddIndex({{"amd64", own}, {"s390x", other}});
  layout_.Finish(index);
  const absl::Status pushed = registry_->Push(layout_directory_.path(), "app:1", {"--all"});
  ASSERT_TRUE(pushed.ok()) << pushed;
  const PullOutcome outcome = daemon_.Pull(daemon_.Request(registry_->url(), "app", "1"));
  ExpectSampleImage(outcome);
  EXPECT_EQ(outcome.resolved->manifest_digest, own.digest);
  EXPECT_EQ(outcome.resolved->index_digest, index.digest);

  PullRequest request = daemon_.Request(registry_->url(), "app", "1");
  request.platform.architecture = "riscv64";
  const PullOutcome none = TestDaemon().Pull(request);
  EXPECT_THAT(Message(none), HasSubstr("linux/riscv64"));
}

TEST_F(RegistryPullTest, PullsByDigest) {
  StartRegistry();
  const TestLayout::Blob image = AddSampleImage(&layout_);
  layout_.Finish(image);
  ASSERT_TRUE(registry_->Push(layout_directory_.path(), "app:1").ok());
  PullRequest request = daemon_.Request(registry_->url(), "app", "ignored");
  request.digest = image.digest;
  ExpectSampleImage(daemon_.Pull(request));
}

TEST_F(RegistryPullTest, NamesWhatIsMissing) {
  StartRegistry();
  const PullOutcome outcome = daemon_.Pull(daemon_.Request(registry_->url(), "app", "nope"));
  EXPECT_EQ(outcome.status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(Message(outcome), HasSubstr("pull test.io/app:nope: " + registry_->url() +
                                          "/v2: GET /app/manifests/nope: HTTP 404"));
}

TEST_F(RegistryPullTest, AuthenticatesWithBasic) {
  StartRegistry("pass word");
  layout_.Finish(AddSampleImage(&layout_));
  const absl::Status pushed = registry_->Push(layout_directory_.path(), "app:1");
  ASSERT_TRUE(pushed.ok()) << pushed;
  PullRequest request = daemon_.Request(registry_->url(), "app", "1");
  request.endpoints[0].credentials = {"crisp", "pass word", "", ""};
  ExpectSampleImage(daemon_.Pull(request));

  request.endpoints[0].credentials.password = "s3cret-but-wrong";
  const PullOutcome wrong = TestDaemon().Pull(request);
  EXPECT_EQ(wrong.status.code(), absl::StatusCode::kUnauthenticated);
  EXPECT_THAT(Message(wrong), Not(HasSubstr("s3cret")));

  request.endpoints[0].credentials = {};
  const PullOutcome anonymous = TestDaemon().Pull(request);
  EXPECT_EQ(anonymous.status.code(), absl::StatusCode::kUnauthenticated);
}

TEST_F(RegistryPullTest, TrustsOnlyTheAuthoritiesItIsGiven) {
  StartRegistry("", TestRegistry::Scheme::kHttps);
  layout_.Finish(AddSampleImage(&layout_));
  const absl::Status pushed = registry_->Push(layout_directory_.path(), "app:1");
  ASSERT_TRUE(pushed.ok()) << pushed;
  PullRequest request = daemon_.Request(registry_->url(), "app", "1");
  const PullOutcome unknown = daemon_.Pull(request);
  EXPECT_EQ(unknown.status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(Message(unknown), HasSubstr("certificate"));

  request.endpoints[0].ca_pem = registry_->certificate();
  ExpectSampleImage(daemon_.Pull(request));

  TestDaemon second;
  request.endpoints[0].ca_pem = "";
  request.endpoints[0].insecure = true;
  request.staging_directory = second.staging();
  EXPECT_TRUE(second.Pull(request).status.ok());
}

TEST_F(RegistryPullTest, PullsByHttp2WithCertificateAndPassword) {
  const TestCertificate authority =
      MakeTestCertificate({.name = "authority", .is_authority = true});
  const TestCertificate client = MakeTestCertificate({.name = "client", .signer = &authority});
  auto registry =
      TestRegistry::Start("pass word", TestRegistry::Scheme::kHttps, authority.certificate);
  ASSERT_TRUE(registry.ok()) << registry.status();
  registry_ = *std::move(registry);
  layout_.Finish(AddSampleImage(&layout_));
  const TempDirectory certificates;
  for (const auto& [name, text] :
       {std::pair("client.cert", client.certificate), std::pair("client.key", client.key)}) {
    ASSERT_TRUE(
        base::ReplaceFile(certificates.path() + "/" + name, text, 0600, base::Durability::kVolatile)
            .ok());
  }
  const absl::Status pushed = registry_->Push(layout_directory_.path(), "app:1",
                                              {"--dest-cert-dir=" + certificates.path()});
  ASSERT_TRUE(pushed.ok()) << pushed;
  PullRequest request = daemon_.Request(registry_->url(), "app", "1");
  Endpoint& endpoint = request.endpoints[0];
  endpoint.ca_pem = registry_->certificate();
  endpoint.client_certificate_pem = client.certificate;
  endpoint.client_key_pem = client.key;
  endpoint.credentials = {"crisp", "pass word", "", ""};
  ExpectSampleImage(daemon_.Pull(request));
  const std::string manifest = "\"GET /v2/app/manifests/1 HTTP/2.0\" 200";
  EXPECT_THAT(registry_->access_log(), HasSubstr(manifest));
  EXPECT_THAT(registry_->access_log(), HasSubstr(" HTTP/1.1\" 200")) << "layers have their own";

  for (const bool has_certificate : {false, true}) {
    PullRequest lacking = request;
    if (has_certificate) {
      lacking.endpoints[0].credentials = {};
    } else {
      lacking.endpoints[0].client_certificate_pem = lacking.endpoints[0].client_key_pem = "";
    }
    const PullOutcome outcome = TestDaemon().Pull(lacking);
    EXPECT_FALSE(outcome.status.ok());
    if (has_certificate) {
      EXPECT_EQ(outcome.status.code(), absl::StatusCode::kUnauthenticated);
    }
  }
}

TEST_F(RegistryPullTest, TriesEndpointsInOrderAndNamesEachFailure) {
  StartRegistry();
  layout_.Finish(AddSampleImage(&layout_));
  ASSERT_TRUE(registry_->Push(layout_directory_.path(), "app:1").ok());
  TestServer broken([](const TestRequest&) { return TestResponse{.status = 404}; });
  PullRequest request = daemon_.Request(broken.url(), "mirror/app", "1");
  request.endpoints.push_back(request.endpoints[0]);
  request.endpoints[1].base_url = registry_->url() + "/v2";
  request.endpoints[1].repository = "app";
  const PullOutcome outcome = daemon_.Pull(request);
  ExpectSampleImage(outcome);
  EXPECT_EQ(outcome.resolved->endpoint, 1);

  request.tag = "nope";
  const PullOutcome failed = TestDaemon().Pull(request);
  EXPECT_THAT(Message(failed), HasSubstr(broken.url() + "/v2: GET /mirror/app/manifests/nope"));
  EXPECT_THAT(Message(failed), HasSubstr(registry_->url() + "/v2: GET /app/manifests/nope"));
}

TEST_F(RegistryPullTest, FetchesOnlyWhatTheDaemonWants) {
  StartRegistry();
  layout_.Finish(AddSampleImage(&layout_));
  ASSERT_TRUE(registry_->Push(layout_directory_.path(), "app:1").ok());
  daemon_.StartWorker();
  const PullOutcome outcome = daemon_.Converse(
      daemon_.Request(registry_->url(), "app", "1"),
      [](const LayerQuestion& question) -> std::vector<LayerAnswer> {
        switch (question.index) {
          case 0:
            return {{0, LayerDecision::kWait}};
          case 1:
            return {{1, LayerDecision::kFetch}};
          default:  // The layer that was waited for arrives; another is to be fetched after all.
            return {
                {2, LayerDecision::kWait}, {0, LayerDecision::kHave}, {2, LayerDecision::kFetch}};
        }
      });
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  EXPECT_FALSE(outcome.layers.contains(0));
  EXPECT_TRUE(outcome.layers.contains(1));
  EXPECT_TRUE(outcome.layers.contains(2));
}

}  // namespace
}  // namespace imageservice::worker
