// One exec: a client, a command in a container, and the bytes between them.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>

#include "absl/time/time.h"
#include "proto/stream.pb.h"
#include "runtimeservice/streaming/async.h"
#include "runtimeservice/streaming/client_output.h"
#include "runtimeservice/streaming/command_client.h"
#include "runtimeservice/streaming/descriptor.h"
#include "runtimeservice/streaming/exec_process.h"
#include "runtimeservice/streaming/task_group.h"

namespace streaming {

// A client that leaves does not end the command (so does CRI-O): the command's input ends, its
// output pipes have no reader, so that the next write gets SIGPIPE, its terminal is hung up.
class ExecSession : private CommandInput {
 public:
  // Everything must outlive this object.
  ExecSession(asio::io_context& loop, const stream::ExecSession& session, CommandClient& client,
              absl::Duration stalled_after_end = kStalledAfterEnd);
  ~ExecSession() override;

  // Returns when the command has ended and the client has been told, or is gone. Once.
  Task<> Run();

 private:
  struct Output;  // One direction from the command to the client.

  Task<> Stdin(std::string_view bytes) override;
  void StdinEnded() override;
  void Resized(uint16_t width, uint16_t height) override;

  Task<> ReadClient();
  Task<CommandResult> RunCommand();
  Task<bool> EndedByContainer(int exit_code);
  Task<> DropStalledClient();
  Task<> TakeTerminal();
  void UseTerminal(base::UniqueFd master);
  Task<> Pump(Output& output);
  Task<bool> Send(const Output& output, std::string_view bytes);
  void EndInput();
  void EndOutput(Output& output);
  void LeaveCommandAlone();

  asio::io_context& loop_;
  const stream::ExecSession& session_;
  CommandClient& client_;
  ClientOutput client_output_;
  const absl::Duration stalled_after_end_;
  ExecProcess process_;

  bool client_left_ = false;
  bool command_ended_ = false;
  bool started_ = false;  // There is something to write input to.
  bool input_ended_ = false;
  Signal input_ready_;
  Signal container_ended_;
  std::optional<WindowSize> size_;  // The last one.
  Signal size_known_;

  std::unique_ptr<Output> out_;  // With a terminal: that.
  std::unique_ptr<Output> error_;
  TaskGroup pumps_;
  TaskGroup others_;
};

}  // namespace streaming
