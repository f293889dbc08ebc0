#include "runtimeservice/streaming/spdy_command.h"

#include <array>
#include <cstdint>
#include <string>
#include <utility>

#include "base/log.h"
#include "base/strings.h"
#include "runtimeservice/streaming/resize_documents.h"
#include "runtimeservice/streaming/spdy_connection.h"

namespace streaming {
namespace {

constexpr int kResizeVersion = 3;
constexpr int kStatusDocumentVersion = 4;
// Of what comes on a stream before all streams are there; the usual clients wait for them.
constexpr size_t kMaxEarlyBytes = 64 << 10;

class SpdyCommandClient final : public CommandClient {
 public:
  SpdyCommandClient(asio::io_context& loop, std::unique_ptr<ByteStream> bytes, int version,
                    const Limits& limits)
      : connection_(SpdyConnection::Create(loop, std::move(bytes), limits)),
        version_(version),
        limits_(limits) {}
  ~SpdyCommandClient() override { Abort(); }

  Task<absl::Status> Open(const CommandStreams& streams) override;
  Task<absl::Status> ReadInput(CommandInput& input) override;
  Task<absl::Status> Write(OutputStream stream, std::string_view bytes) override;
  Task<> Finish(const CommandResult& result) override;
  void Abort() override { connection_->Close(absl::CancelledError("the session was ended")); }

 private:
  // A stream that the request wants, by its header `streamtype`.
  struct Channel {
    std::string_view type;
    bool wanted = false;
    uint32_t stream = 0;  // 0: not opened yet.
    bool client_done = false;
    std::string early;  // Came before all streams were there.
  };

  Task<absl::Status> ReadUntilEnd(CommandInput& input);
  bool Complete() const;
  std::string Missing() const;
  void Opened(const SpdyEvent& event);
  Channel* Find(uint32_t stream);
  absl::Status KeepEarly(const SpdyEvent& event);
  Task<> Deliver(Channel& channel, std::string_view bytes, bool done, CommandInput& input);

  const std::shared_ptr<SpdyConnection> connection_;
  const int version_;
  const Limits limits_;
  Channel error_{.type = "error", .wanted = true};
  Channel stdin_{.type = "stdin"};
  Channel stdout_{.type = "stdout"};
  Channel stderr_{.type = "stderr"};
  Channel resize_{.type = "resize"};
  const std::array<Channel*, 5> channels_ = {&error_, &stdin_, &stdout_, &stderr_, &resize_};
  ResizeDocuments sizes_;
  bool sizes_broken_ = false;
  bool delivering_ = false;
};

bool SpdyCommandClient::Complete() const {
  for (const Channel* channel : channels_) {
    if (channel->wanted && channel->stream == 0) {
      return false;
    }
  }
  return true;
}

std::string SpdyCommandClient::Missing() const {
  std::string names;
  for (const Channel* channel : channels_) {
    if (channel->wanted && channel->stream == 0) {
      names += base::StrCat(names.empty() ? "" : ", ", channel->type);
    }
  }
  return names;
}

Task<absl::Status> SpdyCommandClient::Open(const CommandStreams& streams) {
  stdin_.wanted = streams.stdin_wanted;
  stdout_.wanted = streams.stdout_wanted;
  stderr_.wanted = streams.stderr_wanted && !streams.tty;
  resize_.wanted = streams.tty && version_ >= kResizeVersion;
  connection_->SetDeadline(base::SteadyTime::Now() + limits_.creation,
                           absl::DeadlineExceededError(base::StrCat(
                               "the client did not open all streams within creation_seconds (",
                               absl::ToInt64Seconds(limits_.creation), ")")));
  while (!Complete()) {
    const absl::StatusOr<std::optional<SpdyEvent>> event = co_await connection_->Next();
    if (!event.ok() || !event->has_value()) {
      const absl::Status why = event.ok() ? absl::CancelledError("finished") : event.status();
      co_return absl::Status(
          why.code(), base::StrCat(base::ToStd(why.message()), "; missing streams: ", Missing()));
    }
    if ((*event)->kind == SpdyEvent::Kind::kOpened) {
      Opened(**event);
    }
    const absl::Status kept = KeepEarly(**event);
    if (!kept.ok()) {
      connection_->Close(kept);
      co_return kept;
    }
  }
  connection_->ClearDeadline();
  co_return absl::OkStatus();
}

void SpdyCommandClient::Opened(const SpdyEvent& event) {
  const std::string_view type = event.headers.Find("streamtype").value_or("");
  for (Channel* channel : channels_) {
    if (channel->wanted && channel->type == type) {
      if (channel->stream != 0) {
        connection_->Reset(event.stream, SpdyReset::kProtocolError);
        return;
      }
      channel->stream = event.stream;
    }
  }
  // Others are let be: what comes on them is dropped.
  connection_->Accept(event.stream);
}

SpdyCommandClient::Channel* SpdyCommandClient::Find(uint32_t stream) {
  for (Channel* channel : channels_) {
    if (channel->stream == stream) {
      return channel;
    }
  }
  return nullptr;
}

absl::Status SpdyCommandClient::KeepEarly(const SpdyEvent& event) {
  Channel* channel = Find(event.stream);
  if (channel == nullptr) {
    return absl::OkStatus();
  }
  if (channel->early.size() + event.bytes.size() > kMaxEarlyBytes) {
    return absl::ResourceExhaustedError(base::StrCat("more than ", kMaxEarlyBytes, " bytes of ",
                                                     channel->type,
                                                     " before all streams were opened"));
  }
  channel->early += event.bytes;
  channel->client_done |= event.fin || event.kind == SpdyEvent::Kind::kReset;
  return absl::OkStatus();
}

Task<absl::Status> SpdyCommandClient::ReadInput(CommandInput& input) {
  // When the client leaves while its input waits, that wait is to end.
  connection_->OnClosed([this, &input] {
    if (delivering_) {
      input.StdinEnded();
    }
  });
  absl::Status end = co_await ReadUntilEnd(input);
  connection_->OnClosed(nullptr);
  co_return end;
}

Task<absl::Status> SpdyCommandClient::ReadUntilEnd(CommandInput& input) {
  for (Channel* channel : {&resize_, &stdin_}) {
    const std::string early = std::exchange(channel->early, {});
    if (channel->stream != 0) {
      co_await Deliver(*channel, early, channel->client_done, input);
    }
  }
  while (true) {
    const absl::StatusOr<std::optional<SpdyEvent>> event = co_await connection_->Next();
    if (!event.ok()) {
      co_return event.status();
    }
    if (!event->has_value()) {
      co_return absl::OkStatus();
    }
    const SpdyEvent& what = **event;
    if (what.kind == SpdyEvent::Kind::kOpened) {
      Opened(what);
      continue;
    }
    Channel* channel = Find(what.stream);
    if (channel != nullptr && !channel->client_done) {
      channel->client_done = what.fin || what.kind == SpdyEvent::Kind::kReset;
      co_await Deliver(*channel, what.bytes, channel->client_done, input);
    }
  }
}

Task<> SpdyCommandClient::Deliver(Channel& channel, std::string_view bytes, bool done,
                                  CommandInput& input) {
  if (&channel == &stdin_) {
    if (!bytes.empty()) {
      delivering_ = true;
      co_await input.Stdin(bytes);
      delivering_ = false;
    }
    if (done) {
      input.StdinEnded();
    }
  } else if (&channel == &resize_ && !sizes_broken_) {
    const absl::Status status = sizes_.Take(bytes, input);
    if (!status.ok()) {
      // The terminal keeps the size it has.
      base::LogDebug("resize stream of a client: ", base::ToStd(status.message()));
      sizes_broken_ = true;
    }
  }
}

Task<absl::Status> SpdyCommandClient::Write(OutputStream stream, std::string_view bytes) {
  const Channel& channel = stream == OutputStream::kStdout ? stdout_ : stderr_;
  if (channel.stream == 0 && !connection_->closed()) {
    co_return absl::OkStatus();
  }
  absl::Status status = co_await connection_->Write(channel.stream, bytes);
  co_return status;
}

Task<> SpdyCommandClient::Finish(const CommandResult& result) {
  connection_->FinishStream(stdout_.stream);
  connection_->FinishStream(stderr_.stream);
  const std::string text =
      version_ >= kStatusDocumentVersion ? StatusDocument(result) : StatusText(result);
  (co_await connection_->Write(error_.stream, text)).IgnoreError();
  connection_->FinishStream(error_.stream);
  co_await connection_->Finish();
}

}  // namespace

std::unique_ptr<CommandClient> MakeSpdyCommandClient(asio::io_context& loop,
                                                     std::unique_ptr<ByteStream> bytes, int version,
                                                     const Limits& limits) {
  return std::make_unique<SpdyCommandClient>(loop, std::move(bytes), version, limits);
}

}  // namespace streaming
