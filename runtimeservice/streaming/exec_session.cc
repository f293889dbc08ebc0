#include "runtimeservice/streaming/exec_session.h"

#include <sys/ioctl.h>

#include <algorithm>
#include <csignal>
#include <utility>

#include "base/log.h"
#include "base/strings.h"
#include "runtimeservice/streaming/flow_buffer.h"
#include "runtimeservice/streaming/sessions.h"

namespace streaming {
namespace {

// What a terminal can hold when its last process has ended is less.
constexpr size_t kMostOfTerminal = 256 << 10;
// How long a terminal's first size is waited for, so that the command begins with it. Clients that
// send one do it at once.
constexpr absl::Duration kFirstSize = absl::Milliseconds(20);

// How long after a command that was killed the container's init may end as well.
constexpr absl::Duration kEndOfContainer = absl::Milliseconds(100);

}  // namespace

struct ExecSession::Output {
  Output(OutputStream to, bool is_wanted, Descriptor descriptor)
      : stream(to), wanted(is_wanted), from(std::move(descriptor)) {}

  const OutputStream stream;
  const bool wanted;  // Else read and dropped.
  Descriptor from;
  size_t left = SIZE_MAX;  // Bytes that are still to be read: known once the command has ended.
};

ExecSession::ExecSession(asio::io_context& loop, const stream::ExecSession& session,
                         CommandClient& client, absl::Duration stalled_after_end)
    : loop_(loop),
      session_(session),
      client_(client),
      client_output_(loop, client),
      stalled_after_end_(stalled_after_end),
      process_(loop, session),
      input_ready_(loop),
      container_ended_(loop),
      size_known_(loop),
      pumps_(loop),
      others_(loop) {}

ExecSession::~ExecSession() = default;

Task<> ExecSession::Run() {
  const CommandStreams streams = StreamsOf(session_);
  const absl::Status opened = co_await client_.Open(streams);
  if (!opened.ok()) {
    base::LogInfo("exec in container ", session_.container_id(), ": ",
                  base::ToStd(opened.message()));
    client_.Abort();
    co_return;
  }
  others_.Spawn(ReadClient());
  const CommandResult result = co_await RunCommand();
  if (!client_left_) {
    co_await client_output_.Finish(result);
  }
  client_output_.End();
  process_.StopWatching();
  client_.Abort();
  co_await others_.Join();
}

Task<> ExecSession::ReadClient() {
  const absl::Status ended = co_await client_.ReadInput(*this);
  if (!ended.ok() && !client_output_.ended()) {
    base::LogDebug("exec in container ", session_.container_id(),
                   ": client: ", base::ToStd(ended.message()));
  }
  client_left_ = true;
  size_known_.Notify();
  client_.Abort();
  LeaveCommandAlone();
}

Task<CommandResult> ExecSession::RunCommand() {
  CommandResult result;
  if (session_.tty() && !size_.has_value() && !client_left_) {
    co_await size_known_.WaitFor(kFirstSize);
  }
  if (client_left_) {
    result.status = absl::CancelledError("its client has left");
    co_return result;
  }
  result.status = process_.Start(size_);
  if (!result.status.ok()) {
    EndInput();
    co_return result;
  }
  others_.Spawn(DropStalledClient());
  if (session_.tty()) {
    others_.Spawn(TakeTerminal());
  } else {
    out_ = std::make_unique<Output>(OutputStream::kStdout, session_.stdout(),
                                    std::move(process_.output(OutputStream::kStdout)));
    error_ = std::make_unique<Output>(OutputStream::kStderr, session_.stderr(),
                                      std::move(process_.output(OutputStream::kStderr)));
    pumps_.Spawn(Pump(*out_));
    pumps_.Spawn(Pump(*error_));
    started_ = true;
    input_ready_.Notify();
  }
  if (client_left_) {
    LeaveCommandAlone();
  }
  co_await process_.WaitForEnd();
  command_ended_ = true;
  if (session_.tty() && out_ == nullptr) {
    UseTerminal(process_.console().ReceiveNow());
  }
  process_.console().Close();
  result = process_.Result();
  EndInput();
  for (Output* output : {out_.get(), error_.get()}) {
    if (output != nullptr) {
      EndOutput(*output);
    }
  }
  co_await pumps_.Join();
  if (result.status.ok() && result.exit_code > 128) {
    const bool by_container = co_await EndedByContainer(result.exit_code);
    result.remark = by_container ? "its container ended" : "";
  }
  co_return result;
}

// Whoever kills a container's processes one by one may meet its init a moment after the command.
Task<bool> ExecSession::EndedByContainer(int exit_code) {
  if (exit_code == 128 + SIGKILL && session_.init_pid() > 0 && !process_.ContainerEnded()) {
    co_await container_ended_.WaitFor(kEndOfContainer);
  }
  co_return process_.ContainerEnded();
}

// After the container's end nobody waits for a client: what it does not take is lost.
Task<> ExecSession::DropStalledClient() {
  co_await process_.WaitForContainerEnd();
  container_ended_.Notify();
  if (client_output_.ended() || !process_.ContainerEnded()) {
    co_return;
  }
  const bool dropped = co_await client_output_.DropStalled(stalled_after_end_);
  if (dropped) {
    base::LogInfo("exec in container ", session_.container_id(),
                  ": its client takes no output; dropped");
  }
}

Task<> ExecSession::TakeTerminal() {
  base::UniqueFd master = co_await process_.console().Receive();
  UseTerminal(std::move(master));
}

void ExecSession::UseTerminal(base::UniqueFd master) {
  if (!master.valid() || out_ != nullptr || client_left_) {
    return;
  }
  out_ = std::make_unique<Output>(OutputStream::kStdout, session_.stdout(),
                                  Adopt(loop_, std::move(master)));
  if (size_.has_value()) {
    Resized(size_->width, size_->height);
  }
  pumps_.Spawn(Pump(*out_));
  started_ = true;
  input_ready_.Notify();
}

Task<> ExecSession::Pump(Output& output) {
  FlowBuffer buffer;
  while (output.left > 0) {
    const std::span<char> all = buffer.Get();
    const std::span<char> space = all.first(std::min(all.size(), output.left));
    const std::optional<size_t> length = ReadNow(output.from, space);
    if (length == size_t{0}) {
      break;
    }
    if (length.has_value()) {
      output.left -= command_ended_ ? *length : 0;
      buffer.Filled(*length);
      const bool sent = co_await Send(output, {space.data(), *length});
      if (!sent) {
        break;
      }
      continue;
    }
    if (command_ended_) {
      break;
    }
    buffer.Release();
    co_await Readable(output.from);
  }
  Error ignored;
  output.from.close(ignored);
}

Task<bool> ExecSession::Send(const Output& output, std::string_view bytes) {
  if (client_left_) {
    co_return false;
  }
  if (!output.wanted) {
    co_return true;
  }
  const absl::Status sent = co_await client_output_.Write(output.stream, bytes);
  co_return sent.ok();
}

Task<> ExecSession::Stdin(std::string_view bytes) {
  while (!started_ && !input_ended_) {
    co_await input_ready_.Wait();
  }
  if (input_ended_) {
    co_return;
  }
  Descriptor& to = session_.tty() ? out_->from : process_.input();
  const absl::Status written = co_await WriteAll(to, bytes);
  if (!written.ok()) {
    EndInput();
  }
}

// A terminal has no end of input: nothing is sent there, and it stays open. Who waits for it to
// take input is woken, because that client has left.
void ExecSession::StdinEnded() {
  EndInput();
  if (session_.tty() && out_ != nullptr) {
    Error ignored;
    out_->from.cancel(ignored);
  }
}

void ExecSession::EndInput() {
  input_ended_ = true;
  input_ready_.Notify();
  Error ignored;
  process_.input().close(ignored);
}

void ExecSession::Resized(uint16_t width, uint16_t height) {
  size_ = WindowSize{.width = width, .height = height};
  size_known_.Notify();
  if (session_.tty() && out_ != nullptr && out_->from.is_open()) {
    winsize size = {};
    size.ws_col = width;
    size.ws_row = height;
    ioctl(out_->from.native_handle(), TIOCSWINSZ, &size);
  }
}

// What is in the pipe now is sent; what a background child that has it open writes later is not.
void ExecSession::EndOutput(Output& output) {
  output.left = session_.tty() ? kMostOfTerminal : BytesThere(output.from);
  Error ignored;
  output.from.cancel(ignored);
}

void ExecSession::LeaveCommandAlone() {
  EndInput();
  process_.console().Close();
  Error ignored;
  for (Output* output : {out_.get(), error_.get()}) {
    if (output != nullptr) {
      output->from.close(ignored);
    }
  }
}

}  // namespace streaming
