// The real crisp-pull and TLS, good and bad; and connections that are none.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/ssl.h>

#include <string>

#include "imageservice/worker/test_pull_fixture.h"

namespace imageservice::worker {
namespace {

using ::testing::HasSubstr;

class TlsPullTest : public ServerPullTest {
 protected:
  TlsPullTest() : authority_(MakeTestCertificate({.name = "authority", .is_authority = true})) {}

  TestCertificate Signed(TestCertificateOptions options) {
    options.signer = &authority_;
    return MakeTestCertificate(options);
  }
  PullRequest Trusting() {
    PullRequest request = HastyRequest();
    request.endpoints[0].ca_pem = authority_.certificate;
    return request;
  }
  // What a pull from a server with `tls` ends with.
  PullOutcome PullFrom(const TestServer::Tls& tls) {
    Serve(Nothing(), tls);
    return Pull(Trusting());
  }
  void ExpectRefusal(const PullOutcome& outcome, const std::string& words) {
    EXPECT_EQ(outcome.status.code(), absl::StatusCode::kFailedPrecondition) << outcome.status;
    EXPECT_THAT(Message(outcome), HasSubstr(words));
    EXPECT_THAT(Message(outcome), HasSubstr(server_->url()));
    EXPECT_TRUE(server_->requests().empty());
  }

  const TestCertificate authority_;
};

TEST_F(TlsPullTest, PullsFromAServerOfAGivenAuthority) { ExpectImage(PullFrom({Signed({})})); }

TEST_F(TlsPullTest, ACertificateSignedByItselfIsRefused) {
  ExpectRefusal(PullFrom({MakeTestCertificate()}), "certificate");
}

TEST_F(TlsPullTest, ACertificateOfAnotherHostIsRefused) {
  ExpectRefusal(PullFrom({Signed({.name = "registry.test"})}), "127.0.0.1");
}

TEST_F(TlsPullTest, AnExpiredCertificateIsRefused) {
  ExpectRefusal(PullFrom({Signed({.begins_in_days = -9, .ends_in_days = -1})}), "expired");
}

TEST_F(TlsPullTest, OldVersionsAreNotSpoken) {
  for (const int version : {TLS1_VERSION, TLS1_1_VERSION}) {
    Serve(Nothing(), TestServer::Tls{Signed({}), version, version, ""});
    const PullOutcome outcome = PullAgain(Trusting());
    ExpectRefusal(outcome, "");
  }
}

TEST_F(TlsPullTest, OldVersionsAreNotSpokenWithInsecureRegistriesEither) {
  Serve(Nothing(), TestServer::Tls{Signed({}), TLS1_1_VERSION, TLS1_1_VERSION, ""});
  PullRequest request = HastyRequest();
  request.endpoints[0].insecure = true;
  ExpectRefusal(Pull(request), "");
}

TEST_F(TlsPullTest, TheOldestVersionThatIsSpokenIs1Point2) {
  ExpectImage(PullFrom({Signed({}), TLS1_2_VERSION, TLS1_2_VERSION, ""}));
}

TEST_F(TlsPullTest, PlainHttpOnThePortIsRefused) {
  Serve(Nothing());
  PullRequest request = Trusting();
  request.endpoints[0].base_url = "https://" + server_->host() + "/v2";
  const PullOutcome outcome = Pull(request);
  EXPECT_EQ(outcome.status.code(), absl::StatusCode::kFailedPrecondition) << outcome.status;
  EXPECT_THAT(Message(outcome), HasSubstr("https://" + server_->host()));
}

TEST_F(TlsPullTest, AnInsecureRegistryNeedsNoAuthority) {
  Serve(Nothing(), TestServer::Tls{MakeTestCertificate({.name = "registry.test"})});
  PullRequest request = Request();
  request.endpoints[0].insecure = true;
  ExpectImage(Pull(request));
}

TEST_F(TlsPullTest, ShowsItsCertificateToTheEndpointAndNobodyElse) {
  const TestServer::Tls tls = {Signed({}), 0, 0, authority_.certificate};
  TestServer store([this](const TestRequest& request) { return Honest(request); }, tls);
  Serve(
      [&](const TestRequest& request) -> std::optional<TestResponse> {
        if (!IsBigBlob(request)) return std::nullopt;
        return TestResponse{.status = 307,
                            .headers = {"Location: " + store.url() + request.target}};
      },
      tls);
  PullRequest request = Trusting();
  const TestCertificate client = Signed({.name = "client"});
  request.endpoints[0].client_certificate_pem = client.certificate;
  request.endpoints[0].client_key_pem = client.key;
  const PullOutcome outcome = Pull(request);
  EXPECT_FALSE(outcome.status.ok()) << "the store wants a certificate, too, and gets none";
  EXPECT_FALSE(server_->requests().empty());
  EXPECT_TRUE(store.requests().empty());
  EXPECT_THAT(Message(outcome), HasSubstr(store.url()));

  Serve(Nothing(), tls);
  request.endpoints[0].base_url = server_->url() + "/v2";
  const PullOutcome direct = PullAgain(request);
  EXPECT_TRUE(direct.status.ok()) << direct.status;
  request.endpoints[0].client_certificate_pem = request.endpoints[0].client_key_pem = "";
  EXPECT_FALSE(PullAgain(request).status.ok());
}

TEST_F(TlsPullTest, ARedirectFromHttpsToHttpIsRefused) {
  const auto plain = MakeServer(Nothing());
  const auto to_plain = [&](const TestRequest& request) -> std::optional<TestResponse> {
    if (!IsBlob(request)) return std::nullopt;
    return TestResponse{.status = 302, .headers = {"Location: " + plain->url() + request.target}};
  };
  Serve(to_plain, TestServer::Tls{Signed({})});
  PullRequest request = Trusting();
  const PullOutcome outcome = Pull(request);
  EXPECT_FALSE(outcome.status.ok());
  EXPECT_THAT(Message(outcome), HasSubstr("a redirect from https to " + plain->url()));
  EXPECT_TRUE(plain->requests().empty());

  request.endpoints[0].insecure = true;
  EXPECT_TRUE(PullAgain(request).status.ok());
}

// --- connections that are none
// --------------------------------------------------------------------

class BrokenServerTest : public ServerPullTest {
 protected:
  PullOutcome PullWith(const std::function<void(TestConnection&)>& say) {
    Serve([say](const TestRequest&) { return TestResponse{.instead = say}; });
    return Pull(HastyRequest());
  }
};

TEST_F(BrokenServerTest, AResetWithinTheHeaderIsUnavailable) {
  const PullOutcome outcome = PullWith([](TestConnection& connection) {
    connection.Send("HTTP/1.1 200 OK\r\nContent-Ty");
    connection.Reset();
  });
  EXPECT_EQ(outcome.status.code(), absl::StatusCode::kUnavailable) << outcome.status;
}

TEST_F(BrokenServerTest, SilenceIsUnavailable) {
  const PullOutcome outcome = PullWith([](TestConnection& connection) { connection.Hang(); });
  EXPECT_EQ(outcome.status.code(), absl::StatusCode::kUnavailable) << outcome.status;
  EXPECT_THAT(Message(outcome), HasSubstr("too slow"));
}

TEST_F(BrokenServerTest, AHeaderWithoutEndIsCut) {
  for (const bool is_one_line : {false, true}) {
    const PullOutcome outcome = PullWith([&](TestConnection& connection) {
      connection.Send("HTTP/1.1 200 OK\r\n");
      if (is_one_line) connection.Send("X: ");
      const std::string piece =
          is_one_line ? std::string(10'000, 'x') : "X-Flood: " + std::string(990, 'x') + "\r\n";
      while (connection.Send(piece)) {
        SamplePeak();
      }
    });
    EXPECT_FALSE(outcome.status.ok());
    EXPECT_THAT(Message(outcome), HasSubstr(server_->url()));
    EXPECT_LT(Message(outcome).size(), 1000u);
  }
}

TEST_F(BrokenServerTest, WhatIsNoHttpIsRefused) {
  const PullOutcome outcome = PullWith(
      [](TestConnection& connection) { connection.Send("220 mail.test ESMTP ready\r\n"); });
  EXPECT_EQ(outcome.status.code(), absl::StatusCode::kFailedPrecondition) << outcome.status;
}

TEST_F(BrokenServerTest, ABodyWithoutEndIsCut) {
  Serve([&](const TestRequest& request) -> std::optional<TestResponse> {
    const bool is_manifest = !IsBlob(request);
    return TestResponse{.instead = [this, is_manifest](TestConnection& connection) {
      connection.Send(is_manifest ? "HTTP/1.1 200 OK\r\n\r\n" : "HTTP/1.1 500 Oops\r\n\r\n");
      while (connection.Send(std::string(100'000, '{'))) {
        SamplePeak();
      }
    }};
  });
  const PullOutcome outcome = Pull(HastyRequest());
  EXPECT_EQ(outcome.status.code(), absl::StatusCode::kResourceExhausted) << outcome.status;
}

TEST_F(BrokenServerTest, AnErrorsBodyWithoutEndIsCut) {
  const PullOutcome outcome = PullWith([this](TestConnection& connection) {
    connection.Send("HTTP/1.1 403 No\r\n\r\n");
    while (connection.Send(std::string(100'000, '{'))) {
      SamplePeak();
    }
  });
  EXPECT_EQ(outcome.status.code(), absl::StatusCode::kPermissionDenied) << outcome.status;
}

TEST_F(BrokenServerTest, ABlobWithoutEndIsCutWhereItShouldEnd) {
  Serve([&](const TestRequest& request) -> std::optional<TestResponse> {
    if (!IsBigBlob(request)) return std::nullopt;
    const std::string body = Honest(request).body;
    return TestResponse{.instead = [this, body](TestConnection& connection) {
      connection.Send("HTTP/1.1 200 OK\r\n\r\n" + body);
      while (connection.Send(body)) {
        SamplePeak();
      }
    }};
  });
  const PullOutcome outcome = Pull(HastyRequest());
  EXPECT_EQ(outcome.status.code(), absl::StatusCode::kDataLoss) << outcome.status;
  EXPECT_THAT(Message(outcome), HasSubstr("longer than"));
}

TEST_F(BrokenServerTest, NobodyThereIsUnavailableAndSoon) {
  Serve(Nothing());
  PullRequest request = HastyRequest();
  server_.reset();
  const PullOutcome outcome = Pull(request);
  EXPECT_EQ(outcome.status.code(), absl::StatusCode::kUnavailable) << outcome.status;
}

}  // namespace
}  // namespace imageservice::worker
