// One attach: a client and the streams of a container's init, by its monitor.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "conmon/protocol.h"
#include "proto/stream.pb.h"
#include "runtimeservice/streaming/async.h"
#include "runtimeservice/streaming/client_output.h"
#include "runtimeservice/streaming/command_client.h"
#include "runtimeservice/streaming/exec_process.h"
#include "runtimeservice/streaming/monitor_client.h"
#include "runtimeservice/streaming/output_queue.h"
#include "runtimeservice/streaming/task_group.h"

namespace streaming {

// The monitor is always read, whatever the client does: neither the container nor its log waits.
// A client that leaves is detached. The session ends well with the container, and also when the
// client's input ends: as CRI-O's if the container has no terminal and keeps its input open, and if
// it has one, which is how crictl tells of its detach keys (with CRI-O it hangs then).
class AttachSession : private CommandInput {
 public:
  // Everything must outlive this object.
  AttachSession(asio::io_context& loop, const stream::AttachSession& session, CommandClient& client,
                absl::Duration stalled_after_end = kStalledAfterEnd);

  // Once.
  Task<> Run();

 private:
  Task<> Stdin(std::string_view bytes) override;
  void StdinEnded() override;
  void Resized(uint16_t width, uint16_t height) override;

  Task<> Serve(CommandResult* result);
  Task<absl::Status> Attach();
  Task<> ReadClient();
  Task<> ReadMonitor();
  void Take(conmon::MessageType type, uint32_t sequence, std::string_view payload);
  void TakeOutput(std::string_view payload);
  Task<> WriteOutput();
  Task<> SendInputEnd();
  Task<> SendSizes();
  Task<> DropStalledClient();
  Task<> WaitForQuiet();

  asio::io_context& loop_;
  const stream::AttachSession& session_;
  CommandClient& client_;
  const absl::Duration stalled_after_end_;
  MonitorClient monitor_;
  OutputQueue queue_;
  ClientOutput output_;

  // Of the monitor.
  bool stdin_open_ = false;
  std::optional<int32_t> reply_;  // To our kAttach: an errno.
  bool monitor_ended_ = false;
  bool container_ended_ = false;
  uint64_t packets_ = 0;  // Of output.

  bool attached_ = false;
  bool client_left_ = false;
  bool stdin_waits_ = false;        // For the monitor to take it.
  bool input_done_ = false;         // And that ends the session.
  bool over_ = false;               // Nothing more is sent to the monitor or taken from it.
  std::optional<WindowSize> size_;  // Not sent yet.
  Signal changed_;                  // Any of the above.
  Signal output_came_;
  TaskGroup writer_;
  TaskGroup tasks_;
};

}  // namespace streaming
