// What a monitor and the daemon say to each other, and what a monitor leaves in its state
// directory. Monitors outlive daemons by months, so this file is a promise: version 1 is frozen. A
// later version may add message types, may append members to structs (a reader takes the shorter of
// both lengths) and may add lines to the exit file; nothing that stands here changes its meaning.
//
// Usable without a C++ library: constants and plain structs in native byte order, no padding.
#pragma once

#include <stdint.h>

namespace conmon {

inline constexpr uint32_t kProtocolVersion = 1;

// Files in a container's state directory, written by the monitor.
inline constexpr char kLockFile[] = "monitor.lock";    // flock(2)ed for the monitor's whole life;
                                                       // holds its pid in decimal.
inline constexpr char kSocketFile[] = "monitor.sock";  // SOCK_SEQPACKET, mode 0600.
inline constexpr char kPidFile[] = "pid";              // Container's init, decimal (the runtime's).
inline constexpr char kExitFile[] = "exit";            // See below; appears whole or not at all.
inline constexpr char kRuntimeLogFile[] = "create.log";  // JSON lines of `RUNTIME create`.

// The exit file is text: the line "crisp-exit 1", then one "name value" per line, in decimal:
//   code     exit status of the container's init, 128 + signal when a signal ended it
//   signal   that signal, else 0
//   oom      processes of the container's cgroup killed for lack of memory
//   time     when the init ended, nanoseconds since 1970
//   dropped  lines of output that did not fit on the log's disk
// A reader ignores names it does not know.
inline constexpr char kExitFileMagic[] = "crisp-exit 1";

// Each packet, on the socket and on the handshake, starts with a header. A reply carries the
// `sequence` of its request; what the monitor sends unasked carries 0.
struct Header {
  uint32_t type;  // A MessageType.
  uint32_t sequence;
};

enum class MessageType : uint32_t {
  // Handshake descriptor, a SOCK_SEQPACKET pair inherited by the monitor. In this order:
  //   monitor kReady → daemon kGo → monitor kCreated → daemon kAcknowledge, then it is closed.
  // The daemon's end closed before kAcknowledge undoes everything. kFailed may come instead of
  // kReady or kCreated; by then nothing of the container is left.
  kReady = 1,        // + Ready
  kGo = 2,           // The monitor may run the runtime.
  kCreated = 3,      // + Created
  kFailed = 4,       // + Failed, then text: the runtime's standard error or the monitor's words.
  kAcknowledge = 5,  // The container may live on without the daemon.

  // Socket, from a client. Each but kStdin and kStdinEnd is answered in order; a type that the
  // monitor does not know by kReply with ENOSYS.
  kGetState = 16,  // Answered by kState.
  kReopenLog =
      17,        // + path of the new log, no terminating zero. At kReply with error 0 the old file
                 // is closed and the new one exists; else the old one stays in use.
  kResize = 18,  // + Resize; ENOTTY without a terminal.
  kAttach = 19,  // + Attach. From its kReply on the connection gets kOutput and may send kStdin.
  kStdin = 20,   // + at most kMaxData bytes. Ignored when the container has no stdin.
  kStdinEnd = 21,  // This client has no more input.
  kStart = 22,  // Runs RUNTIME start with the container's standard descriptors, once; EINVAL for a
                // monitor without --sandboxed. With EIO the runtime failed (its words are in
                // kRuntimeLogFile) and the container counts as exited 128.
  kGiveUp =
      23,  // Of what a monitor with --sandboxed would still start: it counts as killed. EINVAL
           // for other monitors and after kStart.

  // Socket, from the monitor.
  kState = 32,   // + State. Also sent first on each connection; carries a pidfd of the container's
                 // init as SCM_RIGHTS.
  kReply = 33,   // + Reply
  kOutput = 34,  // + Output, then at most kMaxData bytes.
  kExited = 35,  // + Exited. The container is gone and its exit file is written; EOF follows. An
                 // attached client that gets EOF without it was dropped for being slow.
};

inline constexpr uint32_t kMaxData = 16384;  // Bytes of stdin or output in one packet.
inline constexpr uint32_t kMaxPacket = 16384 + 64;

struct Ready {
  uint32_t version;
  int32_t monitor_pid;
};

struct Created {
  int32_t pid;  // Of the container's init, in the monitor's PID namespace.
};

struct Failed {
  int32_t exit_status;  // The runtime's (128 + signal), or -1: the monitor itself could not go on.
};

enum StateFlag : uint32_t {
  kHasTerminal = 1,
  kStdinOpen = 2,   // kStdin reaches the container.
  kInitExited = 4,  // Output is still being drained.
};

struct State {
  uint32_t version;
  int32_t pid;             // Of the container's init.
  uint64_t dropped_lines;  // Lines that did not fit on the log's disk.
  uint32_t flags;          // StateFlag
  uint32_t oom_kills;      // As last read.
  int32_t monitor_pid;
  int32_t log_error;  // errno of the last failed write to the log, 0 after a good one.
};

struct Resize {
  uint32_t width;   // Columns.
  uint32_t height;  // Rows.
};

enum StreamFlag : uint32_t { kStreamStdin = 1, kStreamStdout = 2, kStreamStderr = 4 };

struct Attach {
  uint32_t streams;  // StreamFlag: what the client sends and wants to get.
};

struct Reply {
  int32_t error;  // errno, 0 for success.
};

struct Output {
  uint32_t stream;  // kStreamStdout or kStreamStderr.
};

struct Exited {
  int32_t code;
  int32_t signal;
  uint32_t oom_kills;
  uint32_t reserved;
  int64_t time_ns;
};

}  // namespace conmon
