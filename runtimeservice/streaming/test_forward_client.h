// For tests: a client of a port-forward without a connection, on the loop's thread.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "runtimeservice/streaming/async.h"
#include "runtimeservice/streaming/forward_client.h"

namespace streaming {

class TestForwardedConnection : public ForwardedConnection {
 public:
  TestForwardedConnection(asio::io_context& loop, uint16_t port) : port_(port), changed_(loop) {}

  // What the client does.
  void Send(std::string bytes) {
    pieces_.push_back(std::move(bytes));
    changed_.Notify();
  }
  void HalfClose() {
    half_closed_ = true;
    changed_.Notify();
  }
  void Cancel() {
    cancelled_ = true;
    changed_.Notify();
  }
  Task<> Until(std::function<bool()> condition) {
    while (!condition()) {
      co_await changed_.Wait();
    }
  }

  uint16_t port() const override { return port_; }
  bool cancelled() const override { return cancelled_; }
  Task<absl::StatusOr<std::string_view>> Read() override {
    while (!cancelled_ && pieces_.empty() && (!half_closed_ || told_)) {
      co_await changed_.Wait();
    }
    if (cancelled_) {
      co_return absl::CancelledError("client: closed");
    }
    if (pieces_.empty()) {
      told_ = true;
      co_return std::string_view();
    }
    reading_ = std::move(pieces_.front());
    pieces_.pop_front();
    ++reads;
    changed_.Notify();
    co_return std::string_view(reading_);
  }
  Task<absl::Status> Write(std::string_view bytes) override {
    if (cancelled_) {
      co_return absl::CancelledError("client: closed");
    }
    received.append(bytes);
    changed_.Notify();
    co_return absl::OkStatus();
  }
  Task<> FinishWriting() override {
    finished = true;
    changed_.Notify();
    co_return;
  }
  Task<> Fail(std::string_view text) override {
    failure = text;
    changed_.Notify();
    co_return;
  }

  std::string received;
  size_t reads = 0;
  bool finished = false;
  std::string failure;

 private:
  const uint16_t port_;
  Signal changed_;
  std::deque<std::string> pieces_;
  std::string reading_;
  bool half_closed_ = false;
  bool told_ = false;
  bool cancelled_ = false;
};

class TestForwardClient : public ForwardClient {
 public:
  explicit TestForwardClient(asio::io_context& loop) : loop_(loop), changed_(loop) {}

  std::shared_ptr<TestForwardedConnection> Connect(uint16_t port) {
    connections_.push_back(std::make_shared<TestForwardedConnection>(loop_, port));
    wanted_.push_back(connections_.back());
    changed_.Notify();
    return connections_.back();
  }

  Task<absl::Status> Serve(OnConnection opened) override {
    while (!gone_) {
      if (wanted_.empty()) {
        co_await changed_.Wait();
        continue;
      }
      opened(wanted_.front());
      wanted_.pop_front();
    }
    for (const auto& connection : connections_) {
      connection->Cancel();
    }
    co_return absl::CancelledError("client: closed");
  }
  void Abort() override {
    gone_ = true;
    changed_.Notify();
  }

 private:
  asio::io_context& loop_;
  Signal changed_;
  std::vector<std::shared_ptr<TestForwardedConnection>> connections_;
  std::deque<std::shared_ptr<TestForwardedConnection>> wanted_;
  bool gone_ = false;
};

}  // namespace streaming
