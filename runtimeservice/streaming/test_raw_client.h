// A client of bytes without frames, which stands for SPDY in tests of what lies below it.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "base/strings.h"
#include "runtimeservice/streaming/test_door.h"

namespace streaming {

inline constexpr char kSpdyHeaders[] =
    "Host: x\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n"
    "X-Stream-Protocol-Version: v5.channel.k8s.io\r\n"
    "X-Stream-Protocol-Version: v4.channel.k8s.io, v3.channel.k8s.io\r\n";

inline std::string SpdyRequest(std::string_view target, std::string_view method = "POST") {
  return base::StrCat(method, " ", target, " HTTP/1.1\r\n", kSpdyHeaders, "\r\n");
}

// Instead of SPDY: echoes the connection's bytes until their end.
class RawClient : public CommandClient {
 public:
  RawClient(std::unique_ptr<ByteStream> stream, int version)
      : stream_(std::move(stream)), version_(version) {}
  Task<absl::Status> Open(const CommandStreams&) override {
    const std::string hello = base::StrCat("version ", version_, "\n");
    const std::array<std::string_view, 1> pieces = {hello};
    absl::Status written = co_await stream_->Write(pieces);
    co_return written;
  }
  Task<absl::Status> ReadInput(CommandInput& input) override {
    std::array<char, 1000> buffer;
    while (true) {
      const absl::StatusOr<size_t> size = co_await stream_->Read(buffer);
      if (!size.ok()) {
        co_return size.status();
      }
      if (*size == 0) {
        input.StdinEnded();
        co_return absl::OkStatus();
      }
      const std::string_view bytes(buffer.data(), *size);
      co_await input.Stdin(bytes);
    }
  }
  Task<absl::Status> Write(OutputStream, std::string_view bytes) override {
    const std::array<std::string_view, 2> pieces = {"<", bytes};
    absl::Status written = co_await stream_->Write(pieces);
    co_return written;
  }
  Task<> Finish(const CommandResult&) override { co_await stream_->FinishWriting(); }
  void Abort() override { stream_->Close(); }

 private:
  std::unique_ptr<ByteStream> stream_;
  const int version_;
};

// Gives `door` RawClient for all commands over SPDY.
inline void UseRawClients(Door& door) {
  door.spdy_command = [](std::unique_ptr<ByteStream> stream, int version) {
    return std::make_unique<RawClient>(std::move(stream), version);
  };
}

}  // namespace streaming
