#include "runtimeservice/streaming/attach_session.h"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <cerrno>
#include <cstring>

#include "base/log.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "runtimeservice/streaming/sessions.h"

namespace streaming {
namespace {

using conmon::MessageType;

constexpr size_t kKeptForSlowClient = 256 << 10;
constexpr absl::Duration kMonitorLimit = absl::Seconds(10);  // For its first answers.
// After the client's input has ended, output that answers it is still waited for: until there was
// none for this long, so many times at most.
constexpr absl::Duration kQuiet = absl::Milliseconds(100);
constexpr int kQuietRounds = 20;

// How often the loop turns for a client before the monitor is read on, though much waits.
constexpr int kTurnsForClient = 64;

constexpr uint32_t kAttachSequence = 1;
constexpr uint32_t kOtherSequence = 2;

OutputStream NotesOf(const stream::AttachSession& session) {
  return session.stderr() && !session.tty() ? OutputStream::kStderr : OutputStream::kStdout;
}

template <typename T>
std::string_view BytesOf(const T& object) {
  return {reinterpret_cast<const char*>(&object), sizeof(object)};
}

// A struct from a packet; a later version's may be longer.
template <typename T>
T Parse(std::string_view payload) {
  T object = {};
  std::memcpy(&object, payload.data(), std::min(payload.size(), sizeof(object)));
  return object;
}

}  // namespace

AttachSession::AttachSession(asio::io_context& loop, const stream::AttachSession& session,
                             CommandClient& client, absl::Duration stalled_after_end)
    : loop_(loop),
      session_(session),
      client_(client),
      stalled_after_end_(stalled_after_end),
      monitor_(loop),
      queue_(kKeptForSlowClient, NotesOf(session)),
      output_(loop, client),
      changed_(loop),
      output_came_(loop),
      writer_(loop),
      tasks_(loop) {}

Task<> AttachSession::Run() {
  const CommandStreams streams = StreamsOf(session_);
  const absl::Status opened = co_await client_.Open(streams);
  if (!opened.ok()) {
    base::LogInfo("attach to container ", session_.container_id(), ": ",
                  base::ToStd(opened.message()));
    client_.Abort();
    co_return;
  }
  tasks_.Spawn(ReadClient());
  CommandResult result;
  co_await Serve(&result);
  if (!client_left_) {
    co_await output_.Finish(result);
  }
  output_.End();
  client_.Abort();
  co_await tasks_.Join();
}

// From the connection to the monitor until all output has been written.
Task<> AttachSession::Serve(CommandResult* result) {
  result->status = co_await Attach();
  if (result->status.ok()) {
    attached_ = true;
    changed_.Notify();
    tasks_.Spawn(SendSizes());
    writer_.Spawn(WriteOutput());
    while (!monitor_ended_ && !client_left_ && !input_done_) {
      co_await changed_.Wait();
    }
    if (input_done_ && !client_left_) {
      co_await WaitForQuiet();
    }
    if (monitor_ended_ && !container_ended_) {
      result->status = absl::UnavailableError("its monitor has closed the connection");
    }
  }
  result->status =
      base::Annotate(result->status, base::StrCat("attach to container ", session_.container_id()));
  over_ = true;
  monitor_.Close();
  queue_.End();
  changed_.Notify();
  output_came_.Notify();
  if (container_ended_) {
    tasks_.Spawn(DropStalledClient());
  }
  co_await writer_.Join();
}

Task<absl::Status> AttachSession::Attach() {
  const absl::Status connected = monitor_.Connect(session_.monitor_socket());
  if (!connected.ok()) {
    co_return connected;
  }
  tasks_.Spawn(ReadMonitor());
  const conmon::Attach request = {
      .streams = (session_.stdin() ? conmon::kStreamStdin : 0u) |
                 (session_.stdout() ? conmon::kStreamStdout : 0u) |
                 (session_.stderr() && !session_.tty() ? conmon::kStreamStderr : 0u)};
  (co_await monitor_.Send(MessageType::kAttach, kAttachSequence, BytesOf(request))).IgnoreError();
  while (!reply_.has_value() && !monitor_ended_ && !client_left_) {
    const bool in_time = co_await changed_.WaitFor(kMonitorLimit);
    if (!in_time) {
      co_return absl::DeadlineExceededError("its monitor does not answer");
    }
  }
  if (client_left_) {
    co_return absl::CancelledError("the client has left");
  }
  if (reply_.value_or(0) == EBUSY || (!reply_.has_value() && !container_ended_)) {
    // The monitor answers the first; of more connections than it has room for it takes none.
    co_return absl::ResourceExhaustedError("as many clients as its monitor takes are attached");
  }
  if (reply_.value_or(0) != 0) {
    co_return base::ErrnoStatus(*reply_, "its monitor");
  }
  co_return absl::OkStatus();
}

Task<> AttachSession::ReadClient() {
  const absl::Status ended = co_await client_.ReadInput(*this);
  if (!ended.ok() && !output_.ended()) {
    base::LogDebug("attach to container ", session_.container_id(),
                   ": client: ", base::ToStd(ended.message()));
  }
  client_left_ = true;
  client_.Abort();
  changed_.Notify();
}

Task<> AttachSession::ReadMonitor() {
  const MonitorClient::OnPacket take = [this](MessageType type, uint32_t sequence,
                                              std::string_view payload) {
    Take(type, sequence, payload);
  };
  bool more = true;
  while (more && !container_ended_) {
    more = co_await monitor_.Receive(take);
    // A client that takes what it is given is not slow because many packets came at once.
    for (int turn = 0; turn < kTurnsForClient && queue_.MoreThanHalf(); ++turn) {
      Error ignored;
      co_await asio::post(loop_, Await(ignored));
    }
  }
  monitor_ended_ = true;
  changed_.Notify();
}

void AttachSession::Take(MessageType type, uint32_t sequence, std::string_view payload) {
  if (over_) {
    return;
  }
  switch (type) {
    case MessageType::kOutput:
      TakeOutput(payload);
      return;
    case MessageType::kState:
      stdin_open_ = (Parse<conmon::State>(payload).flags & conmon::kStdinOpen) != 0;
      return;
    case MessageType::kReply:
      if (sequence == kAttachSequence) {
        reply_ = Parse<conmon::Reply>(payload).error;
        changed_.Notify();
      }
      return;
    case MessageType::kExited:
      container_ended_ = true;
      return;
    default:
      return;  // A later monitor's.
  }
}

void AttachSession::TakeOutput(std::string_view payload) {
  const auto output = Parse<conmon::Output>(payload);
  payload.remove_prefix(std::min(payload.size(), sizeof(output)));
  queue_.Push(
      output.stream == conmon::kStreamStderr ? OutputStream::kStderr : OutputStream::kStdout,
      payload);
  ++packets_;
  output_came_.Notify();
}

Task<> AttachSession::WriteOutput() {
  while (!client_left_) {
    const std::optional<OutputQueue::Piece> piece = queue_.Take();
    if (!piece.has_value()) {
      if (over_) {
        break;
      }
      co_await output_came_.Wait();
      continue;
    }
    const absl::Status written = co_await output_.Write(piece->stream, piece->bytes);
    if (!written.ok()) {
      break;
    }
  }
}

Task<> AttachSession::Stdin(std::string_view bytes) {
  while (!attached_ && !over_) {
    co_await changed_.Wait();
  }
  while (size_.has_value() && !over_) {
    co_await changed_.Wait();  // Who sees the input sees the size that was sent before it.
  }
  while (!bytes.empty() && !over_ && session_.stdin() && stdin_open_) {
    const std::string_view part = bytes.substr(0, conmon::kMaxData);
    stdin_waits_ = true;
    const absl::Status sent = co_await monitor_.Send(MessageType::kStdin, kOtherSequence, part);
    stdin_waits_ = false;
    if (!sent.ok()) {
      break;
    }
    bytes.remove_prefix(part.size());
  }
}

void AttachSession::StdinEnded() {
  if (stdin_waits_) {
    monitor_.Interrupt();  // That client has left.
    return;
  }
  if (session_.stdin()) {
    tasks_.Spawn(SendInputEnd());
  }
}

Task<> AttachSession::SendInputEnd() {
  while (!attached_ && !over_) {
    co_await changed_.Wait();
  }
  if (session_.tty()) {
    // Who sat at the terminal has gone: by detach keys, which a client keeps to itself.
    input_done_ = true;
    changed_.Notify();
    co_return;
  }
  if (over_ || !stdin_open_) {
    co_return;
  }
  (co_await monitor_.Send(MessageType::kStdinEnd, kOtherSequence, "")).IgnoreError();
  if (!session_.stdin_once()) {
    input_done_ = true;
    changed_.Notify();
  }
}

void AttachSession::Resized(uint16_t width, uint16_t height) {
  size_ = WindowSize{.width = width, .height = height};
  changed_.Notify();
}

// Also a size that came before the monitor's answer.
Task<> AttachSession::SendSizes() {
  while (!over_) {
    if (!size_.has_value()) {
      co_await changed_.Wait();
      continue;
    }
    const WindowSize sent = *size_;
    const conmon::Resize size = {.width = sent.width, .height = sent.height};
    (co_await monitor_.Send(MessageType::kResize, kOtherSequence, BytesOf(size))).IgnoreError();
    if (size_ == sent) {
      size_.reset();
      changed_.Notify();
    }
  }
}

// After the container's end nobody waits for a client: what it does not take is lost.
Task<> AttachSession::DropStalledClient() {
  const bool dropped = co_await output_.DropStalled(stalled_after_end_);
  if (dropped) {
    base::LogInfo("attach to container ", session_.container_id(),
                  ": its client takes no output; dropped");
  }
}

Task<> AttachSession::WaitForQuiet() {
  for (int round = 0; round < kQuietRounds && !monitor_ended_ && !client_left_; ++round) {
    const uint64_t before = packets_;
    co_await changed_.WaitFor(kQuiet);
    if (packets_ == before) {
      break;
    }
  }
}

}  // namespace streaming
