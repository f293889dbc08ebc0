#include "imageservice/worker/parser_process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "base/files.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "imageservice/worker/sandbox.h"
#include "imageservice/worker/unpack.h"

namespace imageservice::worker {
namespace {

constexpr int kPipeBytes = 1 << 20;
constexpr rlim_t kParserMemory = rlim_t{512} << 20;
constexpr size_t kMaxName = 16;

// A frame as protocol.h has it, in one blocking write.
absl::Status WriteFrame(int fd, const WorkerMessage& message) {
  const std::string json = Encode(message);
  std::string frame;
  for (int shift = 24; shift >= 0; shift -= 8) {
    frame += static_cast<char>(json.size() >> shift & 0xff);
  }
  return base::WriteAll(fd, frame + json, "parser result");
}

// The parser's codes are about an archive, never about a name the daemon asked for.
absl::Status ParserStatus(const absl::Status& status) {
  if (absl::IsNotFound(status) || absl::IsAlreadyExists(status) || absl::IsOutOfRange(status)) {
    return absl::InternalError(std::string(base::ToStd(status.message())));
  }
  return status;
}

absl::Status ConfineParser(int directory) {
  RETURN_IF_ERROR(ConfineFiles({}, {directory}).status());
#ifndef __SANITIZE_ADDRESS__
  const rlimit memory = {kParserMemory, kParserMemory};
  if (setrlimit(RLIMIT_DATA, &memory) != 0) {
    return base::ErrnoStatus(errno, "limit the memory");
  }
#endif
  return FilterSystemCalls(Role::kParser);
}

absl::StatusOr<LayerDone> Parse(int staging, const char* name, int input, uint64_t max_entries) {
  umask(0);
  if (mkdirat(staging, name, 0755) != 0) {
    return base::ErrnoStatus(errno, "make the layer's folder");
  }
  const base::UniqueFd root(openat(staging, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!root.valid()) {
    return base::ErrnoStatus(errno, "open the layer's folder");
  }
  RETURN_IF_ERROR(ConfineParser(root.get()));
  ASSIGN_OR_RETURN(LayerTree::Summary summary, UnpackLayer(input, root.get(), max_entries));
  LayerDone done;
  done.chain_id = std::string(64, '0');  // The parser does not know whose layer it is.
  done.directory = name;
  done.bytes = summary.bytes;
  done.inodes = summary.inodes;
  done.deferred = std::move(summary.deferred);
  return done;
}

[[noreturn]] void RunParser(int staging, const char* name, int input, int result,
                            uint64_t max_entries) {
  absl::StatusOr<LayerDone> done = Parse(staging, name, input, max_entries);
  const WorkerMessage message = done.ok() ? WorkerMessage(*std::move(done))
                                          : WorkerMessage(Failed{ParserStatus(done.status())});
  _exit(WriteFrame(result, message).ok() ? 0 : 1);
}

// Takes a parser's name and two descriptors; false at EOF.
bool ReceiveOrder(int socket, char* name, int* fds) {
  iovec text = {name, kMaxName - 1};
  alignas(cmsghdr) char control[CMSG_SPACE(2 * sizeof(int))];
  msghdr message = {};
  message.msg_iov = &text;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  const ssize_t n = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  const cmsghdr* header = CMSG_FIRSTHDR(&message);
  if (n <= 0 || header == nullptr || header->cmsg_type != SCM_RIGHTS ||
      header->cmsg_len != CMSG_LEN(2 * sizeof(int))) {
    return false;
  }
  name[n] = '\0';
  memcpy(fds, CMSG_DATA(header), 2 * sizeof(int));
  return true;
}

absl::Status ConfineForker(int staging, pid_t parent) {
  RETURN_IF_ERROR(ConfineFiles({}, {staging}).status());
  RETURN_IF_ERROR(DropCapabilities(Role::kForker));
  if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0) {
    return base::ErrnoStatus(errno, "set the parent death signal");
  }
  if (getppid() != parent) {
    return absl::CancelledError("the worker is gone");
  }
  return FilterSystemCalls(Role::kForker);
}

[[noreturn]] void RunForker(int socket, int staging, pid_t parent, uint64_t max_entries) {
  signal(SIGCHLD, SIG_IGN);  // Parsers are not waited for: their result's EOF is their end.
  if (!ConfineForker(staging, parent).ok()) {
    _exit(1);
  }
  char name[kMaxName];
  int fds[2];
  while (ReceiveOrder(socket, name, fds)) {
    const pid_t forker = getpid();
    if (fork() == 0) {
      // What follows needs no lock of a thread that fork left behind: there was none.
      if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0 || getppid() != forker) {
        _exit(1);
      }
      close(socket);
      RunParser(staging, name, fds[0], fds[1], max_entries);
    }
    close(fds[0]);
    close(fds[1]);
  }
  _exit(0);
}

}  // namespace

absl::StatusOr<std::unique_ptr<ParserForker>> ParserForker::Start(int staging,
                                                                  uint64_t max_entries) {
  int sockets[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) != 0) {
    return base::ErrnoStatus(errno, "socketpair");
  }
  base::UniqueFd ours(sockets[0]);
  base::UniqueFd theirs(sockets[1]);
  const pid_t parent = getpid();
  const pid_t child = fork();
  if (child < 0) {
    return base::ErrnoStatus(errno, "fork");
  }
  if (child == 0) {
    ours.Reset();
    close(
        kWorkerSocket);  // The daemon sees EOF when the worker ends, not when the last parser does.
    RunForker(theirs.get(), staging, parent, max_entries);
  }
  return std::unique_ptr<ParserForker>(new ParserForker(std::move(ours)));
}

absl::StatusOr<ParserProcess> ParserForker::StartParser(const std::string& directory) {
  int input[2];
  if (pipe2(input, O_CLOEXEC) != 0) {
    return base::ErrnoStatus(errno, "pipe");
  }
  base::UniqueFd parser_input(input[0]);
  ParserProcess parser;
  parser.input.Reset(input[1]);
  int result[2];
  if (pipe2(result, O_CLOEXEC) != 0) {
    return base::ErrnoStatus(errno, "pipe");
  }
  parser.result.Reset(result[0]);
  base::UniqueFd parser_result(result[1]);
  // Fewer switches between two processes; refused beyond the user's limit, and only slower then.
  fcntl(parser.input.get(), F_SETPIPE_SZ, kPipeBytes);

  iovec text = {const_cast<char*>(directory.data()), directory.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(2 * sizeof(int))] = {};
  msghdr message = {};
  message.msg_iov = &text;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(2 * sizeof(int));
  const int fds[2] = {parser_input.get(), parser_result.get()};
  memcpy(CMSG_DATA(header), fds, sizeof(fds));
  if (sendmsg(socket_.get(), &message, MSG_NOSIGNAL) < 0) {
    return base::ErrnoStatus(errno, "start a parser");
  }
  return parser;
}

absl::StatusOr<LayerDone> ReadParserResult(ParserProcess* parser) {
  parser->input.Reset();
  ASSIGN_OR_RETURN(const std::string bytes,
                   base::ReadFd(parser->result.get(), "parser result", kMaxFrameBytes + 4));
  FrameReader reader;
  reader.Append(bytes);
  ASSIGN_OR_RETURN(const std::optional<std::string> frame, reader.Next());
  if (!frame.has_value()) {
    return absl::InternalError("the archive's parser died");
  }
  ASSIGN_OR_RETURN(WorkerMessage message, ParseWorkerMessage(*frame));
  if (auto* failed = std::get_if<Failed>(&message)) {
    return failed->status;
  }
  if (auto* done = std::get_if<LayerDone>(&message)) {
    return std::move(*done);
  }
  return absl::InternalError("the archive's parser answered something else");
}

}  // namespace imageservice::worker
