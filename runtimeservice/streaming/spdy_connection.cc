#include "runtimeservice/streaming/spdy_connection.h"

#include <algorithm>
#include <array>
#include <boost/asio/post.hpp>

#include "base/log.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "runtimeservice/streaming/farewell.h"

namespace streaming {
namespace {

// After a read of less the buffer is a small one again.
constexpr size_t kSmallRead = 4 << 10;
// The Go client hands over frame by frame, and takes frames of 128 KiB nearly twice as fast as such
// of 32 KiB; still larger ones gain little and cost it memory. To us all sizes are one.
constexpr size_t kFrameBytes = 128 << 10;
// Frames in one turn, and in one system call.
constexpr size_t kFramesAtOnce = 2;
// Control frames that wait for the socket. Beyond, the client is not read on: it may flood us with
// pings and read nothing.
constexpr size_t kMaxQueue = 64 << 10;
// Header blocks and frames may be small in a client's bytes and large in work. After so much of it
// others have their turn.
constexpr size_t kWorkAtOnce = 256 << 10;
constexpr size_t kFrameWork = 256;  // Of the smallest frame, in bytes that take as long.
// A ping of ours; the client's are odd.
constexpr uint32_t kProbe = 2;
// How long a client that is thrown out may take to close before it is cut off.
constexpr absl::Duration kGoodbye = absl::Seconds(1);

}  // namespace

std::shared_ptr<SpdyConnection> SpdyConnection::Create(asio::io_context& loop,
                                                       std::unique_ptr<ByteStream> bytes,
                                                       const Limits& limits) {
  return std::shared_ptr<SpdyConnection>(new SpdyConnection(loop, std::move(bytes), limits));
}

SpdyConnection::SpdyConnection(asio::io_context& loop, std::unique_ptr<ByteStream> bytes,
                               const Limits& limits)
    : loop_(loop),
      bytes_(std::move(bytes)),
      limits_(limits),
      decoder_(limits.max_frame_bytes, limits.max_header_bytes),
      inflater_(limits.max_header_bytes),
      turns_(loop),
      changed_(loop),
      last_data_(base::SteadyTime::Now()) {}

Task<absl::StatusOr<std::optional<SpdyEvent>>> SpdyConnection::Next() {
  const Self self = shared_from_this();
  if (!watched_) {
    watched_ = true;
    Spawn(loop_, Watch(self));
  }
  const bool first = !std::exchange(reading_, true);
  while (!closed_) {
    if (!first) {
      co_await changed_.Wait();
      continue;
    }
    if (leaving_) {
      co_await Fill();
      continue;
    }
    if (queue_.size() > kMaxQueue) {
      reader_waits_ = true;
      co_await changed_.Wait();
      continue;
    }
    if (work_ > kWorkAtOnce) {
      work_ = 0;
      co_await asio::post(loop_, asio::use_awaitable);
      continue;
    }
    absl::StatusOr<std::optional<Frame>> frame = decoder_.Next(&input_);
    if (frame.ok() && !frame->has_value()) {
      co_await Fill();
      continue;
    }
    work_ += kFrameWork;
    absl::StatusOr<std::optional<SpdyEvent>> event =
        frame.ok() ? Handle(**frame) : absl::StatusOr<std::optional<SpdyEvent>>(frame.status());
    if (!event.ok()) {
      Leave(SpdyGoAway::kProtocolError, event.status(), kGoodbye);
    } else if (event->has_value()) {
      reading_ = false;
      ++events_;
      co_return *std::move(event);
    }
  }
  if (first) {
    reading_ = false;
  }
  if (!why_->ok()) {
    co_return *why_;
  }
  co_return std::nullopt;
}

Task<> SpdyConnection::Fill() {
  if (last_read_ < kSmallRead) {
    buffer_.Release();
  }
  const std::span<char> target = buffer_.Get();
  const absl::StatusOr<size_t> size = co_await bytes_->Read(target);
  if (!size.ok()) {
    Close(absl::CancelledError(size.status().message()));
  } else if (*size == 0) {
    Close(absl::CancelledError("the client closed its connection"));
  } else {
    buffer_.Filled(*size);
    last_read_ = *size;
    input_ = std::string_view(target.data(), *size);
  }
}

absl::StatusOr<std::optional<SpdyEvent>> SpdyConnection::Handle(const Frame& frame) {
  switch (frame.type) {
    case Frame::Type::kSynStream:
      return HandleSynStream(frame);
    case Frame::Type::kData:
      return HandleData(frame);
    case Frame::Type::kSynReply:
    case Frame::Type::kHeaders:
      // Of no use here, but what comes later is compressed with it.
      RETURN_IF_ERROR(Inflate(frame.bytes).status());
      return std::nullopt;
    case Frame::Type::kReset:
      if (streams_.contains(frame.stream)) {
        Forget(frame.stream);
        return SpdyEvent{.kind = SpdyEvent::Kind::kReset, .stream = frame.stream};
      }
      return std::nullopt;
    case Frame::Type::kPing:
      if (frame.value % 2 == 1) {  // An even one answers a ping of ours.
        Send(SpdyPing(frame.value));
      }
      return std::nullopt;
    case Frame::Type::kGoAway:
      client_goes_ = true;
      Forget(0);
      return std::nullopt;
    case Frame::Type::kSettings:
    case Frame::Type::kWindowUpdate:
      return std::nullopt;
  }
  return std::nullopt;
}

absl::StatusOr<std::string> SpdyConnection::Inflate(std::string_view compressed) {
  absl::StatusOr<std::string> block = inflater_.Inflate(compressed);
  work_ += block.ok() ? block->size() : 0;
  return block;
}

absl::StatusOr<std::optional<SpdyEvent>> SpdyConnection::HandleSynStream(const Frame& frame) {
  // Also for a stream that is refused: what comes later is compressed with it.
  ASSIGN_OR_RETURN(const std::string block, Inflate(frame.bytes));
  absl::StatusOr<SpdyHeaders> headers = SpdyHeaders::Parse(block);
  if (const std::optional<SpdyReset> refusal = Refusal(frame, headers); refusal.has_value()) {
    const bool was_open = streams_.contains(frame.stream);
    Reset(frame.stream, *refusal);
    if (was_open) {
      return SpdyEvent{.kind = SpdyEvent::Kind::kReset, .stream = frame.stream};
    }
    return std::nullopt;
  }
  streams_[frame.stream].client_done = frame.fin;
  SpdyEvent event;
  event.kind = SpdyEvent::Kind::kOpened;
  event.stream = frame.stream;
  event.headers = *std::move(headers);
  event.fin = frame.fin;
  return event;
}

std::optional<SpdyReset> SpdyConnection::Refusal(const Frame& frame,
                                                 const absl::StatusOr<SpdyHeaders>& headers) {
  if (frame.stream % 2 == 0 || frame.stream <= last_stream_) {
    return SpdyReset::kProtocolError;
  }
  last_stream_ = frame.stream;
  if (!headers.ok() || frame.unidirectional) {
    return SpdyReset::kProtocolError;
  }
  if (client_goes_) {
    return SpdyReset::kRefusedStream;
  }
  if (streams_.size() >= limits_.max_streams) {
    if (!std::exchange(refusal_logged_, true)) {
      base::LogWarning("stream ", frame.stream, " of a client refused: it has max_streams (",
                       limits_.max_streams, ") open");
    }
    return SpdyReset::kRefusedStream;
  }
  return std::nullopt;
}

std::optional<SpdyEvent> SpdyConnection::HandleData(const Frame& frame) {
  const auto found = streams_.find(frame.stream);
  if (found == streams_.end() || found->second.client_done) {
    return std::nullopt;  // It crossed our reset, as a rule.
  }
  if (!frame.bytes.empty()) {
    last_data_ = base::SteadyTime::Now();
  } else if (!frame.fin) {
    return std::nullopt;
  }
  if (frame.fin) {
    found->second.client_done = true;
    if (found->second.server_done) {
      Forget(frame.stream);
    }
  }
  return SpdyEvent{.stream = frame.stream, .bytes = frame.bytes, .fin = frame.fin};
}

void SpdyConnection::Accept(uint32_t stream) {
  const auto found = streams_.find(stream);
  if (found == streams_.end() || std::exchange(found->second.accepted, true)) {
    return;
  }
  Send(SpdySynReply(stream, deflater_.Deflate(SpdyHeaders().Serialize())));
}

void SpdyConnection::Reset(uint32_t stream, SpdyReset reason) {
  Send(SpdyRstStream(stream, reason));
  Forget(stream);
}

void SpdyConnection::Forget(uint32_t stream) {
  streams_.erase(stream);
  if (client_goes_ && streams_.empty()) {
    Leave(SpdyGoAway::kOk, absl::CancelledError("the client said goodbye"), kGoodbye);
  }
}

absl::Status SpdyConnection::Writable(uint32_t stream) const {
  if (closed_ || leaving_) {
    return absl::CancelledError("the client's connection has ended");
  }
  const auto found = streams_.find(stream);
  if (found == streams_.end() || !found->second.accepted || found->second.server_done) {
    return absl::CancelledError(base::StrCat("stream ", stream, " has ended"));
  }
  return absl::OkStatus();
}

Task<absl::Status> SpdyConnection::Write(uint32_t stream, std::string_view bytes) {
  const Self self = shared_from_this();
  std::array<std::array<char, 8>, kFramesAtOnce> heads;
  std::array<std::string_view, 1 + 2 * kFramesAtOnce> pieces;
  while (!bytes.empty()) {
    const Turns::Turn turn = co_await turns_.Take();
    absl::Status status = Writable(stream);
    if (!status.ok()) {
      co_return status;
    }
    size_t used = 1;
    for (std::array<char, 8>& head : heads) {
      const std::string_view chunk = bytes.substr(0, kFrameBytes);
      if (chunk.empty()) {
        break;
      }
      bytes.remove_prefix(chunk.size());
      head = SpdyDataHead(stream, chunk.size(), /*fin=*/false);
      pieces[used++] = std::string_view(head.data(), head.size());
      pieces[used++] = chunk;
    }
    const std::span<std::string_view> all(pieces.data(), used);
    status = co_await WriteOut(all);
    if (!status.ok()) {
      co_return status;
    }
    last_data_ = base::SteadyTime::Now();
  }
  co_return Writable(stream);
}

Task<absl::Status> SpdyConnection::WriteOut(std::span<std::string_view> pieces) {
  sending_.swap(queue_);
  pieces.front() = sending_;
  const std::span<const std::string_view> sent = sending_.empty() ? pieces.subspan(1) : pieces;
  const absl::Status status = co_await bytes_->Write(sent);
  sending_.clear();
  if (std::exchange(reader_waits_, false)) {
    changed_.Notify();
  }
  if (!status.ok()) {
    Close(absl::CancelledError(status.message()));
    co_return absl::CancelledError(status.message());
  }
  co_return absl::OkStatus();
}

void SpdyConnection::WriteShort(uint32_t stream, std::string_view text) {
  if (Writable(stream).ok() && !text.empty()) {
    Send(SpdyData(stream, text));
  }
}

void SpdyConnection::FinishStream(uint32_t stream) {
  if (!Writable(stream).ok()) {
    return;
  }
  Send(SpdyData(stream, "", /*fin=*/true));
  streams_[stream].server_done = true;
  if (streams_[stream].client_done) {
    Forget(stream);
  }
}

void SpdyConnection::Send(std::string_view frame) {
  if (closed_ || leaving_) {
    return;
  }
  queue_ += frame;
  if (!std::exchange(flush_pending_, true)) {
    Spawn(loop_, FlushQueue(shared_from_this()));
  }
}

Task<> SpdyConnection::FlushQueue(Self self) {
  const Turns::Turn turn = co_await self->turns_.Take();
  self->flush_pending_ = false;
  // A writer may have taken it along meanwhile.
  if (!self->queue_.empty() && !self->closed_) {
    std::array<std::string_view, 1> pieces;
    const std::span<std::string_view> all(pieces);
    (co_await self->WriteOut(all)).IgnoreError();
  }
}

void SpdyConnection::SetDeadline(base::SteadyTime deadline, absl::Status why) {
  deadline_ = deadline;
  deadline_why_ = std::move(why);
  changed_.Notify();
}

std::pair<base::SteadyTime, absl::Status> SpdyConnection::NextDeadline() const {
  base::SteadyTime next = base::SteadyTime::InfiniteFuture();
  absl::Status why;
  if (limits_.idle > absl::ZeroDuration()) {
    next = last_data_ + limits_.idle;
    why = absl::DeadlineExceededError(
        base::StrCat("no data for idle_seconds (", absl::ToInt64Seconds(limits_.idle), ")"));
  }
  if (deadline_.has_value() && *deadline_ < next) {
    next = *deadline_;
    why = deadline_why_;
  }
  return {next, why};
}

Task<> SpdyConnection::Watch(Self self) {
  while (!self->leaving_ && !self->closed_) {
    const auto [deadline, why] = self->NextDeadline();
    const absl::Duration left = deadline - base::SteadyTime::Now();
    if (left <= absl::ZeroDuration()) {
      self->Leave(SpdyGoAway::kOk, why, kGoodbye);
      continue;
    }
    const absl::Duration pause = std::min(left, self->limits_.pong);
    const bool changed = co_await self->changed_.WaitFor(pause);
    if (!changed) {
      self->ProbeStalledClient();
    }
  }
}

// Behind input that waits its end of file waits too; but a ping to a client that is gone is
// answered by the kernel with a reset, which the next write or read sees.
void SpdyConnection::ProbeStalledClient() {
  if (!reading_ && events_ == probed_ && queue_.empty()) {
    Send(SpdyPing(kProbe));
  }
  probed_ = events_;
}

Task<> SpdyConnection::Finish() {
  const Self self = shared_from_this();
  Leave(SpdyGoAway::kOk, absl::OkStatus(), absl::ZeroDuration());
  Spawn(loop_, CloseWhenTaken(self));
  while (!closed_) {
    (co_await Next()).IgnoreError();
  }
}

void SpdyConnection::Leave(SpdyGoAway reason, absl::Status why, absl::Duration patience) {
  if (closed_ || leaving_) {
    return;
  }
  Send(SpdyGoAwayFrame(last_stream_, reason));
  leaving_ = true;
  why_ = std::move(why);
  Spawn(loop_, SayGoodbye(shared_from_this()));
  if (patience > absl::ZeroDuration()) {
    Spawn(loop_, CloseAfter(shared_from_this(), patience));
  }
  changed_.Notify();
}

Task<> SpdyConnection::SayGoodbye(Self self) {
  // Behind the flush of GOAWAY: turns are served in the order of asking.
  const Turns::Turn turn = co_await self->turns_.Take();
  if (!self->closed_) {
    co_await self->bytes_->FinishWriting();
  }
}

Task<> SpdyConnection::CloseAfter(Self self, absl::Duration patience) {
  const base::SteadyTime end = base::SteadyTime::Now() + patience;
  while (!self->closed_) {
    const absl::Duration left = end - base::SteadyTime::Now();
    if (left <= absl::ZeroDuration()) {
      self->Close(absl::CancelledError("the client did not close its connection"));
    } else {
      co_await self->changed_.WaitFor(left);
    }
  }
}

Task<> SpdyConnection::CloseWhenTaken(Self self) {
  Farewell farewell(self->limits_);
  while (!self->closed_) {
    if (farewell.Left(*self->bytes_) == absl::ZeroDuration()) {
      self->Close(absl::CancelledError("the client did not close its connection"));
    } else {
      co_await self->changed_.WaitFor(self->limits_.farewell / 4);
    }
  }
}

void SpdyConnection::Close(absl::Status why) {
  if (std::exchange(closed_, true)) {
    return;
  }
  if (!why_.has_value()) {
    why_ = std::move(why);
  }
  bytes_->Close();
  changed_.Notify();
  if (on_closed_) {
    std::exchange(on_closed_, nullptr)();
  }
}

}  // namespace streaming
