#include "runtimeservice/streaming/websocket_command.h"

#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "base/strings.h"
#include "runtimeservice/streaming/channel_messages.h"
#include "runtimeservice/streaming/resize_documents.h"

namespace streaming {
namespace {

enum Channel : uint8_t { kStdin = 0, kStdout = 1, kStderr = 2, kError = 3, kResize = 4 };
constexpr uint8_t kCloseMessage = 0xff;  // v5: the channel that the next byte names ends.

class WebSocketCommandClient final : public CommandClient {
 public:
  WebSocketCommandClient(std::unique_ptr<WebSocketConnection> connection, std::string_view protocol)
      : messages_(std::move(connection), MessagesOf(protocol)),
        has_close_(protocol == "v5.channel.k8s.io"),
        has_document_(has_close_ || absl::StartsWith(base::ToAbsl(protocol), "v4.")) {}

  Task<absl::Status> Open(const CommandStreams& streams) override {
    streams_ = streams;
    streams_.stderr_wanted = streams.stderr_wanted && !streams.tty;
    // Shows the client that the connection works.
    const uint8_t lowest = streams_.stdout_wanted   ? kStdout
                           : streams_.stderr_wanted ? kStderr
                                                    : kError;
    absl::Status written = co_await messages_.Write(lowest, "");
    co_return written;
  }

  Task<absl::Status> ReadInput(CommandInput& input) override {
    // When the client leaves while its input waits, that wait is to end.
    messages_.connection().OnClosed([this, &input] {
      if (delivering_) {
        input.StdinEnded();
      }
    });
    absl::Status end = co_await ReadUntilEnd(input);
    messages_.connection().OnClosed(nullptr);
    co_return end;
  }

  Task<absl::Status> Write(OutputStream stream, std::string_view bytes) override {
    const bool is_stdout = stream == OutputStream::kStdout;
    if (bytes.empty() || !(is_stdout ? streams_.stdout_wanted : streams_.stderr_wanted)) {
      co_return absl::OkStatus();
    }
    absl::Status written = co_await messages_.Write(is_stdout ? kStdout : kStderr, bytes);
    co_return written;
  }

  Task<> Finish(const CommandResult& result) override {
    finished_ = true;
    const std::string status = has_document_ ? StatusDocument(result) : StatusText(result);
    if (!status.empty()) {
      (co_await messages_.Write(kError, status)).IgnoreError();
    }
    co_await messages_.connection().Close(WebSocketClose::kNormal, "");
  }

  void Abort() override { messages_.connection().Abort(); }

 private:
  Task<absl::Status> ReadUntilEnd(CommandInput& input) {
    while (true) {
      const absl::StatusOr<ChannelMessages::Data> data = co_await messages_.Read();
      absl::Status status = data.status();
      if (status.ok()) {
        status = co_await Take(*data, input);
      }
      if (!status.ok()) {
        if (!absl::IsCancelled(status)) {
          co_await messages_.connection().Close(WebSocketClose::kBadData,
                                                base::ToStd(status.message()));
        }
        co_return finished_ ? absl::OkStatus() : status;
      }
    }
  }

  // Data of a channel that nobody asked for is dropped.
  Task<absl::Status> Take(const ChannelMessages::Data& data, CommandInput& input) {
    if (data.channel == kStdin && streams_.stdin_wanted && !stdin_ended_) {
      if (!data.bytes.empty()) {
        delivering_ = true;
        co_await input.Stdin(data.bytes);
        delivering_ = false;
      }
    } else if (data.channel == kResize && streams_.tty) {
      co_return resizes_.Take(data.bytes, input);
    } else if (data.channel == kCloseMessage && has_close_) {
      if (data.first) {
        close_is_read_ = false;
      }
      if (!data.bytes.empty() && !close_is_read_) {
        close_is_read_ = true;
        if (data.bytes.front() == kStdin && streams_.stdin_wanted && !stdin_ended_) {
          stdin_ended_ = true;
          input.StdinEnded();
        }
      }
    }
    co_return absl::OkStatus();
  }

  ChannelMessages messages_;
  const bool has_close_;
  const bool has_document_;
  CommandStreams streams_;
  ResizeDocuments resizes_;
  bool stdin_ended_ = false;
  bool close_is_read_ = false;  // The channel of the present close message is known.
  bool finished_ = false;
  bool delivering_ = false;  // The session takes input.
};

}  // namespace

std::unique_ptr<CommandClient> MakeWebSocketCommandClient(
    std::unique_ptr<WebSocketConnection> connection, std::string_view protocol) {
  return std::make_unique<WebSocketCommandClient>(std::move(connection), protocol);
}

}  // namespace streaming
