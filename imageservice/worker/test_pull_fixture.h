// For tests: the real crisp-pull against a server that serves a layout and may interfere.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/time/clock.h"
#include "base/files.h"
#include "base/strings.h"
#include "imageservice/worker/test_daemon.h"
#include "imageservice/worker/test_registry.h"
#include "imageservice/worker/test_server.h"

namespace imageservice::worker {

class ServerPullTest : public ::testing::Test {
 protected:
  using Interfere = std::function<std::optional<TestResponse>(const TestRequest&)>;

  void SetUp() override {
    if (geteuid() != 0) {
      GTEST_SKIP() << "SKIP: root";
    }
    root_ = AddSampleImage(&layout_);
  }

  // A server of the layout that asks `interfere` first.
  std::unique_ptr<TestServer> MakeServer(const Interfere& interfere,
                                         std::optional<TestServer::Tls> tls = std::nullopt) {
    return std::make_unique<TestServer>(
        [this, interfere](const TestRequest& request) {
          SamplePeak();
          if (std::optional<TestResponse> response = interfere(request)) {
            return *std::move(response);
          }
          return Honest(request);
        },
        std::move(tls));
  }
  void Serve(const Interfere& interfere, std::optional<TestServer::Tls> tls = std::nullopt) {
    server_ = MakeServer(interfere, std::move(tls));
  }
  TestResponse Honest(const TestRequest& request) {
    return ServeLayout(layout_, root_, request).value_or(TestResponse{.status = 404});
  }
  static Interfere Nothing() {
    return [](const TestRequest&) { return std::nullopt; };
  }
  static bool IsBlob(const TestRequest& request) {
    return request.target.find("/blobs/") != std::string::npos;
  }
  // The one with the file "big".
  bool IsBigBlob(const TestRequest& request) {
    const std::string path = request.path();
    const auto found = layout_.blobs().find(path.substr(path.rfind('/') + 1));
    return IsBlob(request) && found != layout_.blobs().end() && found->second.size() > 100'000;
  }

  PullRequest Request() { return daemon_.Request(server_->url(), "app", "1"); }
  // With little patience.
  PullRequest HastyRequest() {
    PullRequest request = Request();
    request.limits.stall_timeout_seconds = 1;
    request.endpoints[0].connect_timeout_seconds = 2;
    return request;
  }
  // One more endpoint, after those that are there.
  static void AddEndpoint(PullRequest* request, const TestServer& server) {
    Endpoint endpoint = request->endpoints[0];
    endpoint.base_url = server.url() + "/v2";
    request->endpoints.push_back(endpoint);
  }

  PullOutcome Pull() { return Pull(Request()); }
  // Pulls; whatever the other side does, it ends soon, with little memory and says no secret.
  PullOutcome Pull(const PullRequest& request) {
    const absl::Time begin = absl::Now();
    PullOutcome outcome = daemon_.Pull(request);
    EXPECT_LT(absl::Now() - begin, absl::Seconds(40));
#ifndef __SANITIZE_ADDRESS__
    EXPECT_LT(peak_kib_, 64 << 10);
#endif
    std::string said = Message(outcome);
    for (const std::string& warning : outcome.warnings) said += warning;
    for (const absl::Status& stall : outcome.stalls) said += base::ToStd(stall.message());
    for (const std::string& secret : Secrets(request)) {
      EXPECT_THAT(said, testing::Not(testing::HasSubstr(secret)));
    }
    return outcome;
  }
  // The same by a daemon of its own, whose folder is empty.
  PullOutcome PullAgain(PullRequest request) {
    TestDaemon again;
    request.staging_directory = again.staging();
    return again.Pull(request);
  }
  void ExpectImage(const PullOutcome& outcome) {
    ASSERT_TRUE(outcome.status.ok()) << outcome.status;
    ASSERT_EQ(outcome.layers.size(), 3u);
    EXPECT_EQ(base::ReadFile(daemon_.LayerPath(outcome, 0) + "/etc/motd").value_or(""), "gzip");
    EXPECT_EQ(base::ReadFile(daemon_.LayerPath(outcome, 1) + "/big").value_or(""), BigText());
    EXPECT_EQ(outcome.progress.bytes_done, outcome.progress.bytes_total);
  }

  // Looks at the memory the worker has taken so far.
  void SamplePeak() {
    const std::string status =
        base::ReadFile(base::StrCat("/proc/", daemon_.pid(), "/status")).value_or("");
    const size_t found = status.find("VmHWM:");
    if (found == std::string::npos) return;
    const int kib = atoi(status.c_str() + found + 6);
    for (int seen = peak_kib_; seen < kib && !peak_kib_.compare_exchange_weak(seen, kib);) {
    }
  }

  static std::vector<std::string> Secrets(const PullRequest& request) {
    std::vector<std::string> secrets;
    const auto add = [&](const std::string& secret) {
      if (!secret.empty()) secrets.push_back(secret);
    };
    for (const Endpoint& endpoint : request.endpoints) {
      const Credentials& credentials = endpoint.credentials;
      add(credentials.password);
      add(credentials.identity_token);
      add(credentials.registry_token);
      add(endpoint.bearer_token);
      if (!credentials.username.empty()) {
        add(absl::Base64Escape(credentials.username + ":" + credentials.password));
      }
      for (const std::string& header : endpoint.headers) add(header.substr(header.find(':') + 2));
    }
    return secrets;
  }

  TestDaemon daemon_;
  TempDirectory layout_directory_;
  TestLayout layout_{layout_directory_.path()};
  TestLayout::Blob root_;
  std::atomic<int> peak_kib_ = 0;
  std::unique_ptr<TestServer> server_;
};

}  // namespace imageservice::worker
