// A client's bytes: taken apart in two ways of cutting with one result, and served to their end as
// a command and as a port-forward. Half of the inputs are scripts that become frames, so that
// header blocks are deflated well and streams mean something.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "runtimeservice/streaming/spdy_command.h"
#include "runtimeservice/streaming/spdy_forward.h"
#include "runtimeservice/streaming/spdy_frames.h"
#include "runtimeservice/streaming/spdy_headers.h"

namespace streaming {
namespace {

constexpr Limits kLimits = {.max_streams = 8,
                            .max_frame_bytes = 1 << 20,
                            .max_header_bytes = 4096,
                            .creation = absl::Milliseconds(1),
                            .idle = absl::Milliseconds(1)};

void Require(bool holds) {
  if (!holds) {
    std::abort();
  }
}

// All that the frames say, DATA joined.
std::string Decode(std::string_view bytes, size_t cut) {
  SpdyDecoder decoder(kLimits.max_frame_bytes, kLimits.max_header_bytes);
  std::string all;
  bool joins = false;
  while (!bytes.empty()) {
    const std::string piece(bytes.substr(0, cut));
    bytes.remove_prefix(piece.size());
    std::string_view input = piece;
    while (true) {
      const auto frame = decoder.Next(&input);
      if (!frame.ok()) {
        return all + "error";
      }
      if (!frame->has_value()) {
        break;
      }
      const SpdyFrame& what = **frame;
      const bool data = what.type == SpdyFrame::Type::kData;
      if (!joins) {
        all += "frame " + std::to_string(static_cast<int>(what.type)) + " " +
               std::to_string(what.stream) + " " + std::to_string(what.value) + " ";
      }
      joins = data && !what.fin;
      all += what.bytes;
      all += what.fin ? "fin" : "";
      if (data && what.bytes.empty()) {
        joins = false;
      }
    }
  }
  return all;
}

// Gives out its input in pieces, then ends; drops what is written.
class MemoryStream : public ByteStream {
 public:
  MemoryStream(std::string input, size_t cut) : input_(std::move(input)), cut_(cut) {}
  Task<absl::StatusOr<size_t>> Read(std::span<char> buffer) override {
    if (closed_) {
      co_return absl::CancelledError("closed");
    }
    const size_t size = std::min({buffer.size(), cut_, input_.size() - at_});
    std::memcpy(buffer.data(), input_.data() + at_, size);
    at_ += size;
    co_return size;
  }
  Task<absl::Status> Write(std::span<const std::string_view>) override {
    co_return closed_ ? absl::CancelledError("closed") : absl::OkStatus();
  }
  Task<> FinishWriting() override { co_return; }
  void Close() override { closed_ = true; }

 private:
  const std::string input_;
  const size_t cut_;
  size_t at_ = 0;
  bool closed_ = false;
};

class EchoInput : public CommandInput {
 public:
  explicit EchoInput(CommandClient& client) : client_(client) {}
  Task<> Stdin(std::string_view bytes) override {
    (co_await client_.Write(OutputStream::kStdout, bytes)).IgnoreError();
  }
  void StdinEnded() override {}
  void Resized(uint16_t width, uint16_t height) override { Require(width != 0 && height != 0); }

 private:
  CommandClient& client_;
};

Task<> ServeCommand(std::unique_ptr<CommandClient> client) {
  const CommandStreams streams = {.stdin_wanted = true, .stdout_wanted = true, .tty = true};
  const absl::Status opened = co_await client->Open(streams);
  if (opened.ok()) {
    EchoInput input(*client);
    (co_await client->ReadInput(input)).IgnoreError();
    const CommandResult result;
    co_await client->Finish(result);
  }
}

Task<> EchoConnection(std::shared_ptr<ForwardedConnection> connection) {
  if (connection->port() % 4 == 1) {
    co_await connection->Fail("refused");
  }
  while (connection->port() % 4 != 2) {
    const absl::StatusOr<std::string_view> bytes = co_await connection->Read();
    if (!bytes.ok() || bytes->empty()) {
      break;
    }
    (co_await connection->Write(*bytes)).IgnoreError();
  }
  co_await connection->FinishWriting();
}

Task<> ServeForward(asio::io_context& loop, std::unique_ptr<ForwardClient> client) {
  const ForwardClient::OnConnection opened =
      [&loop](std::shared_ptr<ForwardedConnection> connection) {
        Spawn(loop, EchoConnection(std::move(connection)));
      };
  Require(!(co_await client->Serve(opened)).ok());
}

uint8_t Take(std::string_view* script) {
  const uint8_t byte = script->empty() ? 0 : static_cast<uint8_t>(script->front());
  script->remove_prefix(script->empty() ? 0 : 1);
  return byte;
}

std::string_view TakeText(std::string_view* script) {
  const std::string_view text = script->substr(0, Take(script));
  script->remove_prefix(text.size());
  return text;
}

// One byte says which frame, the next ones what is in it.
std::string Frames(std::string_view script) {
  constexpr std::string_view kTypes[] = {"error", "data", "stdin", "stdout", "resize", "stderr"};
  SpdyDeflater deflater;
  std::string bytes;
  while (!script.empty()) {
    const uint8_t what = Take(&script);
    const uint32_t stream = Take(&script);
    switch (what % 8) {
      case 0:
      case 1:
      case 2: {
        SpdyHeaders headers;
        headers.Add("streamtype", kTypes[Take(&script) % std::size(kTypes)]);
        headers.Add("port", std::to_string(Take(&script)));
        if (what % 8 == 1) {
          headers.Add("requestid", std::to_string(Take(&script) % 4));
        } else if (what % 8 == 2) {
          headers.Add(TakeText(&script), TakeText(&script));
        }
        bytes += SpdySynStream(stream, deflater.Deflate(headers.Serialize()), what > 200);
        break;
      }
      case 3:
      case 4:
        bytes += SpdyData(stream, TakeText(&script), what > 128);
        break;
      case 5:
        bytes += SpdyRstStream(stream, SpdyReset::kCancel);
        break;
      case 6:
        bytes += what > 240 ? SpdyGoAwayFrame(stream, SpdyGoAway::kOk) : SpdyPing(stream);
        break;
      default:
        bytes += TakeText(&script);
    }
  }
  return bytes;
}

}  // namespace
}  // namespace streaming

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace streaming;
  std::string_view input(reinterpret_cast<const char*>(data), size);
  const uint8_t mode = Take(&input);
  const std::string bytes = mode % 2 == 0 ? std::string(input) : Frames(input);
  const size_t cut = 1 + mode / 2;
  Require(Decode(bytes, cut) == Decode(bytes, std::max<size_t>(1, bytes.size())));
  asio::io_context loop;
  Spawn(loop, ServeCommand(MakeSpdyCommandClient(
                  loop, std::make_unique<MemoryStream>(bytes, 4 * cut), 1 + mode % 4, kLimits)));
  Spawn(loop,
        ServeForward(loop, MakeSpdyForwardClient(
                               loop, std::make_unique<MemoryStream>(bytes, 4 * cut), kLimits)));
  loop.run();
  return 0;
}
