// The real crisp-pull and its endpoints: which is asked what, in which order, over which
// connections.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <string>

#include "absl/strings/escaping.h"
#include "base/json.h"
#include "imageservice/worker/test_pull_fixture.h"

namespace imageservice::worker {
namespace {

using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::Not;

class EndpointPullTest : public ServerPullTest {
 protected:
  static TestServer::Handler Always(int status) {
    return [status](const TestRequest&) {
      return TestResponse{.status = status, .headers = {"Retry-After: 0"}};
    };
  }
  static std::vector<std::string> Targets(TestServer* server) {
    std::vector<std::string> targets;
    for (const TestRequest& request : server->requests()) targets.push_back(request.target);
    return targets;
  }
  // The server that `request` asks first, before server_.
  static void PutFirst(PullRequest* request, const TestServer& server) {
    AddEndpoint(request, server);
    std::swap(request->endpoints.front(), request->endpoints.back());
  }
};

TEST_F(EndpointPullTest, ATagIsResolvedByThoseWhoMayAndContentComesFromTheMirror) {
  Serve(Nothing());
  const auto mirror = MakeServer(Nothing());
  PullRequest request = Request();
  PutFirst(&request, *mirror);
  request.endpoints[0].can_resolve = false;
  request.endpoints[1].can_pull = false;
  const PullOutcome outcome = Pull(request);
  ExpectImage(outcome);
  EXPECT_EQ(outcome.resolved->endpoint, 1);
  EXPECT_EQ(Targets(server_.get()), std::vector<std::string>({"/v2/app/manifests/1"}));
  EXPECT_THAT(Targets(mirror.get()), Each(HasSubstr("/blobs/")));
}

TEST_F(EndpointPullTest, ADigestIsAskedForWhereContentIs) {
  Serve(Nothing());
  const auto mirror = MakeServer(Nothing());
  PullRequest request = Request();
  request.digest = root_.digest;
  PutFirst(&request, *mirror);
  request.endpoints[0].can_resolve = false;
  ExpectImage(Pull(request));
  EXPECT_TRUE(server_->requests().empty());
}

TEST_F(EndpointPullTest, NobodyWhoMayBeAskedIsAClearError) {
  Serve(Nothing());
  PullRequest request = Request();
  request.endpoints[0].can_resolve = false;
  const PullOutcome outcome = Pull(request);
  EXPECT_EQ(outcome.status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(Message(outcome), HasSubstr("no endpoint may be asked for a tag"));
}

TEST_F(EndpointPullTest, AMirrorLearnsWhoseRegistryItIsAskedFor) {
  Serve(Nothing());
  PullRequest request = Request();
  request.endpoints[0].registry_namespace = "docker.io:443/x y";
  ExpectImage(Pull(request));
  EXPECT_THAT(Targets(server_.get()), Each(testing::EndsWith("?ns=docker.io%3A443%2Fx%20y")));
}

TEST_F(EndpointPullTest, APathBeforeTheApiIsKept) {
  Serve([this](const TestRequest& request) -> std::optional<TestResponse> {
    if (!request.target.starts_with("/cache/docker/v2/")) return TestResponse{.status = 400};
    TestRequest inner = request;
    inner.target.erase(0, std::string("/cache/docker").size());
    return Honest(inner);
  });
  PullRequest request = Request();
  request.endpoints[0].base_url = server_->url() + "/cache/docker/v2";
  ExpectImage(Pull(request));
}

TEST_F(EndpointPullTest, TheErrorNamesEveryEndpointAndWhyItFailed) {
  TestServer gone(Always(404));
  TestServer denied(Always(403));
  TestServer down(Always(500));
  Serve([](const TestRequest&) { return TestResponse{.status = 404}; });
  PullRequest request = HastyRequest();
  PutFirst(&request, gone);
  PutFirst(&request, denied);
  PutFirst(&request, down);
  const PullOutcome outcome = Pull(request);
  EXPECT_EQ(outcome.status.code(), absl::StatusCode::kPermissionDenied);
  for (const std::string& reason : {gone.url() + "/v2: GET /app/manifests/1: HTTP 404",
                                    denied.url() + "/v2: GET /app/manifests/1: HTTP 403",
                                    down.url() + "/v2: GET /app/manifests/1: HTTP 500",
                                    server_->url() + "/v2: GET /app/manifests/1: HTTP 404"}) {
    EXPECT_THAT(Message(outcome), HasSubstr(reason));
  }
}

TEST_F(EndpointPullTest, TheRegistryItselfSaysWhatDoesNotExist) {
  TestServer down(Always(503));
  Serve([](const TestRequest&) { return TestResponse{.status = 404}; });
  PullRequest request = Request();
  PutFirst(&request, down);
  EXPECT_EQ(Pull(request).status.code(), absl::StatusCode::kNotFound);
  std::swap(request.endpoints.front(), request.endpoints.back());
  EXPECT_EQ(PullAgain(request).status.code(), absl::StatusCode::kUnavailable);
}

TEST_F(EndpointPullTest, OneThatFailedIsNotAskedForEveryBlob) {
  Serve(Nothing());
  TestServer gone(Always(404));
  PullRequest request = Request();
  PutFirst(&request, gone);
  ExpectImage(Pull(request));
  EXPECT_EQ(gone.requests().size(), 1u);
}

TEST_F(EndpointPullTest, ALayerThatOneLacksComesFromTheNext) {
  Serve([&](const TestRequest& request) -> std::optional<TestResponse> {
    return IsBigBlob(request) ? std::optional(TestResponse{.status = 404}) : std::nullopt;
  });
  const auto other = MakeServer(Nothing());
  PullRequest request = Request();
  AddEndpoint(&request, *other);
  ExpectImage(Pull(request));
}

// --- insecure registries
// --------------------------------------------------------------------------

TEST_F(EndpointPullTest, HttpIsUsedWhereHttpsIsNotSpokenAndHttpsNotTriedAgain) {
  Serve(Nothing());
  PullRequest request = Request();
  request.endpoints.push_back(request.endpoints[0]);
  request.endpoints[0].base_url = "https://" + server_->host() + "/v2";
  request.endpoints[0].insecure = request.endpoints[1].insecure = true;
  ExpectImage(Pull(request));
  // A TLS hello is no request; it is one connection that says nothing else.
  EXPECT_LE(server_->connections(), 5);
}

TEST_F(EndpointPullTest, HttpIsNotUsedWhereHttpsAnswers) {
  const TestServer::Tls tls = {MakeTestCertificate()};
  Serve([](const TestRequest&) { return TestResponse{.status = 404}; }, tls);
  PullRequest request = Request();
  request.endpoints.push_back(request.endpoints[0]);
  request.endpoints[1].base_url = "http://" + server_->host() + "/v2";
  request.endpoints[0].insecure = request.endpoints[1].insecure = true;
  const PullOutcome outcome = Pull(request);
  EXPECT_EQ(outcome.status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(Message(outcome), Not(HasSubstr("http://")));
}

TEST_F(EndpointPullTest, BothReasonsAreToldWhenNeitherSchemeWorks) {
  Serve(Nothing());
  const std::string host = server_->host();
  server_.reset();  // Nobody listens there any more.
  PullRequest request = daemon_.Request("https://" + host, "app", "1");
  request.endpoints.push_back(request.endpoints[0]);
  request.endpoints[1].base_url = "http://" + host + "/v2";
  request.endpoints[0].insecure = request.endpoints[1].insecure = true;
  const PullOutcome outcome = Pull(request);
  EXPECT_EQ(outcome.status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(Message(outcome), HasSubstr("https://" + host + "/v2: GET"));
  EXPECT_THAT(Message(outcome), HasSubstr("; http://" + host + "/v2: GET"));
}

// --- content that comes otherwise
// -----------------------------------------------------------------

// An image of one layer whose manifest `change` may change.
class DescriptorPullTest : public EndpointPullTest {
 protected:
  void ServeChanged(const std::function<void(base::Json*)>& change, const Interfere& interfere) {
    const TestLayout::Blob image =
        layout_.AddImage({GzipLayer({{.name = "f", .content = "x"}})}, "linux", "amd64");
    base::Json manifest = base::ParseJson(layout_.blobs().at(image.digest)).value();
    change(&manifest);
    root_ = layout_.AddBlob(base::DumpJson(manifest), image.media_type);
    Serve(interfere);
  }
  std::string Encoded(const base::Json& descriptor) {
    return absl::Base64Escape(layout_.blobs().at(descriptor["digest"].get<std::string>()));
  }
};

TEST_F(DescriptorPullTest, AForeignLayerComesFromItsUrlWithoutCredentials) {
  TestServer store([this](const TestRequest& request) { return Honest(request); });
  std::string layer;
  ServeChanged(
      [&](base::Json* manifest) {
        base::Json& descriptor = (*manifest)["layers"][0];
        layer = descriptor["digest"].get<std::string>();
        descriptor["mediaType"] = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
        descriptor["urls"] = {"http://127.0.0.1:1/gone", store.url() + "/v2/app/blobs/" + layer};
      },
      [&](const TestRequest& request) -> std::optional<TestResponse> {
        if (request.target.find(layer) != std::string::npos) return TestResponse{.status = 404};
        return std::nullopt;
      });
  PullRequest request = Request();
  request.endpoints[0].headers = {"X-Key: api-k3y"};
  request.endpoints[0].credentials.registry_token = "registry-t0ken";
  const PullOutcome outcome = Pull(request);
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  ASSERT_EQ(store.requests().size(), 1u);
  EXPECT_FALSE(store.requests()[0].headers.contains("authorization"));
  EXPECT_FALSE(store.requests()[0].headers.contains("x-key"));
}

TEST_F(DescriptorPullTest, ContentInTheManifestIsUsedOnceItIsFoundRight) {
  ServeChanged(
      [&](base::Json* manifest) {
        (*manifest)["config"]["data"] = Encoded((*manifest)["config"]);
        (*manifest)["layers"][0]["data"] = Encoded((*manifest)["layers"][0]);
      },
      Nothing());
  const PullOutcome outcome = Pull();
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  EXPECT_EQ(base::ReadFile(daemon_.LayerPath(outcome, 0) + "/f").value_or(""), "x");
  EXPECT_EQ(server_->requests().size(), 1u) << "the manifest";
}

TEST_F(DescriptorPullTest, ContentInTheManifestThatIsWrongIsFetched) {
  ServeChanged(
      [&](base::Json* manifest) {
        (*manifest)["config"]["data"] = "!!!";
        (*manifest)["layers"][0]["data"] = absl::Base64Escape("something else");
      },
      Nothing());
  const PullOutcome outcome = Pull();
  EXPECT_TRUE(outcome.status.ok()) << outcome.status;
  EXPECT_EQ(server_->requests().size(), 3u);
}

// --- connections
// ----------------------------------------------------------------------------------

TEST_F(EndpointPullTest, ConnectionsAreKept) {
  Serve([&](const TestRequest& request) -> std::optional<TestResponse> {
    // A challenge and a redirect on the way must not cost a connection each.
    if (request.header("authorization").empty()) {
      return TestResponse{
          .status = 401, .headers = {"WWW-Authenticate: Basic realm=x"}, .body = "who are you?"};
    }
    if (IsBlob(request) && request.target.find("moved") == std::string::npos) {
      return TestResponse{.status = 307,
                          .headers = {"Location: " + request.target + "?moved"},
                          .body = "over there"};
    }
    return std::nullopt;
  });
  PullRequest request = Request();
  request.limits.max_parallel_layers = 1;
  request.endpoints[0].credentials = {"user", "p4ssword", "", ""};
  ExpectImage(Pull(request));
  EXPECT_EQ(server_->requests().size(), 1u + 1 + 4 * 2);
  EXPECT_EQ(server_->connections(), 1);
}

TEST_F(EndpointPullTest, AParallelPullTakesAConnectionForEachLayerAndNoMore) {
  Serve(Nothing());
  ExpectImage(Pull());
  EXPECT_LE(server_->connections(), 3);
}

// --- proxies
// --------------------------------------------------------------------------------------

// Takes CONNECT and passes bytes on to one server; or answers plain requests itself.
class ProxyPullTest : public EndpointPullTest {
 protected:
  void StartProxy() {
    proxy_ = std::make_unique<TestServer>([this](const TestRequest& request) {
      if (request.method != "CONNECT") {
        TestRequest inner = request;  // "GET http://host/path".
        inner.target.erase(0, inner.target.find('/', 8));
        return Honest(inner);
      }
      return TestResponse{.instead = [this](TestConnection& connection) {
        connection.Send("HTTP/1.1 200 Connected\r\n\r\n");
        connection.JoinTo(server_->port());
      }};
    });
  }
  std::unique_ptr<TestServer> proxy_;
};

TEST_F(ProxyPullTest, HttpsGoesThroughTheTunnelOfTheProxyInTheEnvironment) {
  const TestCertificate certificate = MakeTestCertificate();
  Serve(Nothing(), TestServer::Tls{certificate});
  StartProxy();
  PullRequest request = Request();
  request.endpoints[0].ca_pem = certificate.certificate;
  request.endpoints[0].headers = {"X-Key: api-k3y"};
  request.endpoints[0].credentials.registry_token = "registry-t0ken";
  daemon_.environment = {"HTTPS_PROXY=http://proxyuser:pr0xypass@" + proxy_->host()};
  ExpectImage(Pull(request));
  ASSERT_FALSE(proxy_->requests().empty());
  for (const TestRequest& seen : proxy_->requests()) {
    EXPECT_EQ(seen.method, "CONNECT");
    EXPECT_EQ(seen.target, server_->host());
    EXPECT_EQ(seen.header("proxy-authorization"),
              "Basic " + absl::Base64Escape("proxyuser:pr0xypass"));
    EXPECT_FALSE(seen.headers.contains("authorization"));
    EXPECT_FALSE(seen.headers.contains("x-key"));
  }
}

TEST_F(ProxyPullTest, HttpGoesThroughTheProxyInTheEnvironment) {
  Serve(Nothing());
  StartProxy();
  daemon_.environment = {"http_proxy=http://" + proxy_->host()};
  ExpectImage(Pull());
  EXPECT_FALSE(proxy_->requests().empty());
  EXPECT_TRUE(server_->requests().empty());
}

TEST_F(ProxyPullTest, NoProxyNamesHostsAndNetworks) {
  Serve(Nothing());
  StartProxy();
  for (const std::string exception : {"127.0.0.1", "10.0.0.0/8,127.0.0.0/8", "*"}) {
    TestDaemon again;
    again.environment = {"http_proxy=http://" + proxy_->host(), "NO_PROXY=" + exception};
    PullRequest request = Request();
    request.staging_directory = again.staging();
    const PullOutcome outcome = again.Pull(request);
    EXPECT_TRUE(outcome.status.ok()) << outcome.status;
  }
  EXPECT_TRUE(proxy_->requests().empty());
}

TEST_F(ProxyPullTest, AProxyThatRefusesIsNamedWithoutItsPassword) {
  const TestCertificate certificate = MakeTestCertificate();
  Serve(Nothing(), TestServer::Tls{certificate});
  TestServer refusing(Always(407));
  daemon_.environment = {"HTTPS_PROXY=http://proxyuser:pr0xypass@" + refusing.host()};
  const PullOutcome outcome = Pull();
  EXPECT_EQ(outcome.status.code(), absl::StatusCode::kUnavailable) << outcome.status;
  EXPECT_THAT(Message(outcome), HasSubstr("407"));
  EXPECT_THAT(Message(outcome), Not(HasSubstr("pr0xypass")));
}

}  // namespace
}  // namespace imageservice::worker
