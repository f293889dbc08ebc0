// One command in a container, as the kernel sees it: its files, its pipes or its terminal, and the
// child of ours that waits for it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "base/subprocess.h"
#include "proto/stream.pb.h"
#include "runtimeservice/streaming/command_client.h"
#include "runtimeservice/streaming/command_result.h"
#include "runtimeservice/streaming/console_socket.h"
#include "runtimeservice/streaming/descriptor.h"

namespace streaming {

namespace stream = crisp::stream;

struct WindowSize {
  uint16_t width = 0;   // Columns.
  uint16_t height = 0;  // Rows.
  friend bool operator==(const WindowSize&, const WindowSize&) = default;
};

// The folder of the session is the record of the command: it is there before the command is and
// goes once that has ended and its result was asked for, at the latest with this object, which must
// therefore outlive the command.
class ExecProcess {
 public:
  // `session` must outlive this object.
  ExecProcess(asio::io_context& loop, const stream::ExecSession& session);
  ExecProcess(const ExecProcess&) = delete;
  ExecProcess& operator=(const ExecProcess&) = delete;
  // Removes the files; a command that still runs is killed as far as its waiter can be.
  ~ExecProcess();

  // Makes files and pipes and runs the session's argv. A terminal has `size` from the beginning.
  // FAILED_PRECONDITION when the container has ended.
  absl::Status Start(std::optional<WindowSize> size);

  // Of a command without terminal, from Start on: where its input goes (closed when it is to have
  // none) and where its output comes from.
  Descriptor& input() { return input_; }
  Descriptor& output(OutputStream stream) {
    return stream == OutputStream::kStdout ? output_ : error_output_;
  }
  // Of one with a terminal: on this socket the runtime hands it over.
  ConsoleSocket& console() { return console_; }

  // Until the command, or the runtime that was to start it, has ended.
  Task<> WaitForEnd();
  // How, once WaitForEnd has returned.
  CommandResult Result();

  // Until the container's init has ended, or StopWatching.
  Task<> WaitForContainerEnd();
  bool ContainerEnded() const;
  void StopWatching();

 private:
  absl::Status MakeFiles(std::optional<WindowSize> size);
  absl::Status WatchContainer();
  absl::Status MakePipes(base::Command* command, Pipe* in, Pipe* out, Pipe* error);
  std::string RuntimeWords();
  void RemoveFiles();

  asio::io_context& loop_;
  const stream::ExecSession& session_;
  bool files_made_ = false;
  std::optional<base::Subprocess> waiter_;
  Descriptor waiter_end_;
  Descriptor container_end_;  // A pidfd of the init; closed when there is none to watch.
  Descriptor input_;
  Descriptor output_;  // With a terminal: what the runtime itself says.
  Descriptor error_output_;
  ConsoleSocket console_;
};

}  // namespace streaming
