// For tests: a client of an exec or attach without a connection, on the loop's thread.
#pragma once

#include <algorithm>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "base/strings.h"
#include "runtimeservice/streaming/async.h"
#include "runtimeservice/streaming/command_client.h"
#include "runtimeservice/streaming/command_result.h"

namespace streaming {

class TestCommandClient : public CommandClient {
 public:
  explicit TestCommandClient(asio::io_context& loop) : input_came_(loop), changed_(loop) {}

  // What the client does; at any time, in this order.
  void SendStdin(std::string bytes) {
    Do([this, bytes = std::move(bytes)](CommandInput& input) { return Feed(input, bytes); });
  }
  void EndStdin() {
    Do([](CommandInput& input) {
      input.StdinEnded();
      return Nothing();
    });
  }
  void Resize(uint16_t width, uint16_t height) {
    Do([width, height](CommandInput& input) {
      input.Resized(width, height);
      return Nothing();
    });
  }
  // Closes its connection.
  void Vanish() { Abort(); }
  // From now on takes no output, or takes it again.
  void Stall(bool stalled) {
    stalled_ = stalled;
    changed_.Notify();
  }
  // Waits until `condition` holds; looked at whenever something happens to this client.
  Task<> Until(std::function<bool()> condition) {
    while (!condition()) {
      co_await changed_.Wait();
    }
  }

  Task<absl::Status> Open(const CommandStreams& streams) override {
    opened = streams;
    co_return open_status;
  }
  Task<absl::Status> ReadInput(CommandInput& input) override {
    while (!gone_ && !result.has_value()) {
      if (actions_.empty()) {
        co_await input_came_.Wait();
        continue;
      }
      const std::function<Task<>(CommandInput&)> action = std::move(actions_.front());
      actions_.pop_front();
      delivering_to_ = &input;
      changed_.Notify();
      co_await action(input);
      delivering_to_ = nullptr;
      ++actions_done;
      changed_.Notify();
    }
    co_return result.has_value() ? absl::OkStatus() : absl::CancelledError("client: closed");
  }
  Task<absl::Status> Write(OutputStream stream, std::string_view bytes) override {
    ++writes_waiting;
    changed_.Notify();
    while (stalled_ && !gone_) {
      co_await changed_.Wait();
    }
    --writes_waiting;
    if (gone_) {
      co_return absl::CancelledError("client: closed");
    }
    (stream == OutputStream::kStdout ? out : err).append(bytes);
    changed_.Notify();
    co_return absl::OkStatus();
  }
  Task<> Finish(const CommandResult& how) override {
    while (stalled_ && !gone_) {
      co_await changed_.Wait();
    }
    if (!gone_) {
      result = how;
    }
    input_came_.Notify();
    changed_.Notify();
  }
  void Abort() override {
    if (!std::exchange(gone_, true) && delivering_to_ != nullptr) {
      delivering_to_->StdinEnded();
    }
    input_came_.Notify();
    changed_.Notify();
  }

  absl::Status open_status;
  std::optional<CommandStreams> opened;
  std::string out;
  std::string err;
  std::optional<CommandResult> result;
  size_t actions_done = 0;
  size_t writes_waiting = 0;  // For it to take output.
  bool gone() const { return gone_; }
  // Whether an action of the client has begun and not ended.
  bool delivering() const { return delivering_to_ != nullptr; }

 private:
  static Task<> Nothing() { co_return; }
  Task<> Feed(CommandInput& input, const std::string& bytes) {
    constexpr size_t kPart = 32 << 10;  // As a SPDY client does.
    for (size_t at = 0; at < bytes.size() && !gone_; at += kPart) {
      co_await input.Stdin(std::string_view(bytes).substr(at, kPart));
    }
  }
  void Do(std::function<Task<>(CommandInput&)> action) {
    actions_.push_back(std::move(action));
    input_came_.Notify();
  }

  std::deque<std::function<Task<>(CommandInput&)>> actions_;
  Signal input_came_;
  Signal changed_;
  CommandInput* delivering_to_ = nullptr;
  bool gone_ = false;
  bool stalled_ = false;
};

}  // namespace streaming
