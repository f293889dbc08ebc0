#include "imageservice/worker/forker.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <set>

#include "base/files.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "imageservice/worker/digest.h"
#include "imageservice/worker/fd_packet.h"
#include "imageservice/worker/sandbox.h"
#include "imageservice/worker/verifier.h"

namespace imageservice::worker {
namespace {

constexpr int kPipeBytes = 1 << 20;
constexpr size_t kMaxResultBytes = 128 << 10;
// Layers that failed end a little later than the ones that are tried instead begin.
constexpr int kSpareLayers = 4;

struct Settings {
  uint64_t max_layer_bytes = 0;
  uint64_t max_layer_entries = 0;
  int max_layers = 0;  // At a time.
};

// What a layer is made of and where: its folder and, for an artifact's file, the blob's digest and
// its name, each after a NUL.
struct Order {
  std::string directory;
  ArtifactFile file;  // Without a name: none.
};

std::string EncodeOrder(const Order& order) {
  const std::string_view nul("", 1);
  return order.file.name.empty()
             ? order.directory
             : base::StrCat(order.directory, nul, order.file.digest, nul, order.file.name);
}

// The network process may have been taken over.
absl::StatusOr<Order> ParseOrder(const std::string& text) {
  const size_t digest = text.find('\0');
  Order order = {.directory = text.substr(0, digest), .file = {}};
  bool is_good = IsLayerDirectory(order.directory);
  if (digest != std::string::npos) {
    const size_t name = std::min(text.find('\0', digest + 1), text.size());
    order.file.digest = text.substr(digest + 1, name - digest - 1);
    order.file.name = text.substr(std::min(name + 1, text.size()));
    const absl::StatusOr<std::string> clean = CleanArtifactName(order.file.name);
    is_good =
        is_good && CheckDigest(order.file.digest).ok() && clean.ok() && *clean == order.file.name;
  }
  if (!is_good) {
    return absl::InternalError("a malformed order");
  }
  return order;
}

absl::Status Confine(int staging) {
  RETURN_IF_ERROR(ConfineFiles({}, {staging}).status());
  RETURN_IF_ERROR(DropCapabilities(Role::kForker));
  return FilterSystemCalls(Role::kForker);
}

// Lives in the forked process.
class ForkerProcess {
 public:
  explicit ForkerProcess(base::UniqueFd socket) : socket_(std::move(socket)) {}

  absl::Status Run() {
    ASSIGN_OR_RETURN(FdPacket first, Receive(1));
    staging_ = std::move(first.fds.front());
    if (first.bytes.size() != sizeof(settings_)) {
      return absl::InternalError("malformed settings");
    }
    memcpy(&settings_, first.bytes.data(), sizeof(settings_));
    RETURN_IF_ERROR(Confine(staging_.get()));
    for (;;) {
      ASSIGN_OR_RETURN(const FdPacket packet, Receive(2));
      ASSIGN_OR_RETURN(const Order order, ParseOrder(packet.bytes));
      Reap();
      StartVerifier(order, packet.fds[0].get(), packet.fds[1].get());
    }
  }

 private:
  absl::StatusOr<FdPacket> Receive(size_t fds) {
    ASSIGN_OR_RETURN(std::optional<FdPacket> packet, ReceivePacket(socket_.get(), Wait::kBlock));
    if (!packet.has_value() || packet->fds.size() != fds) {
      return absl::InternalError("a malformed order");
    }
    return *std::move(packet);
  }

  // Collects the dead; waits for one when too many live. Parsers that lost their verifier are among
  // them.
  void Reap() {
    for (;;) {
      const bool is_full = static_cast<int>(verifiers_.size()) >= settings_.max_layers;
      const pid_t dead = waitpid(-1, nullptr, is_full ? 0 : WNOHANG);
      if (dead <= 0 && (errno != EINTR || dead == 0)) {
        return;
      }
      verifiers_.erase(dead);
    }
  }

  // A fork that fails shows as an end without a word.
  void StartVerifier(const Order& order, int archive, int result) {
    const pid_t forker = getpid();
    const pid_t child = fork();
    if (child > 0) {
      verifiers_.insert(child);
    }
    if (child != 0) {
      return;
    }
    // What follows needs no lock of a thread that fork left behind: there was none.
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0 || getppid() != forker) {
      _exit(1);
    }
    socket_.Reset();
    RunVerifier({.staging = staging_.get(),
                 .directory = order.directory,
                 .file = order.file,
                 .archive = archive,
                 .result = result,
                 .verdicts = kVerdictSocket,
                 .max_bytes = settings_.max_layer_bytes,
                 .max_entries = settings_.max_layer_entries});
  }

  base::UniqueFd socket_;
  base::UniqueFd staging_;
  Settings settings_;
  std::set<pid_t> verifiers_;
};

[[noreturn]] void RunForker(base::UniqueFd socket, pid_t parent) {
  // The daemon sees EOF when the network process ends, not when the last of these does.
  close(kWorkerSocket);
  if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0 || getppid() != parent ||
      prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0) {
    _exit(1);
  }
  _exit(ForkerProcess(std::move(socket)).Run().ok() ? 0 : 1);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Forker>> Forker::Start() {
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
    RunForker(std::move(theirs), parent);
  }
  close(kVerdictSocket);
  return std::unique_ptr<Forker>(new Forker(std::move(ours)));
}

absl::Status Forker::Configure(int staging, const Limits& limits) {
  const Settings settings = {.max_layer_bytes = limits.max_layer_bytes,
                             .max_layer_entries = limits.max_layer_entries,
                             .max_layers = std::max(1, limits.max_parallel_layers) + kSpareLayers};
  const std::string_view bytes(reinterpret_cast<const char*>(&settings), sizeof(settings));
  return base::Annotate(SendPacket(socket_.get(), bytes, {staging}), "set the forker up");
}

absl::StatusOr<LayerProcess> Forker::StartLayer(const std::string& directory) {
  return Start(directory, directory);
}

absl::StatusOr<LayerProcess> Forker::StartFile(const std::string& directory,
                                               const ArtifactFile& file) {
  return Start(EncodeOrder({directory, file}), directory);
}

absl::StatusOr<LayerProcess> Forker::Start(const std::string& order, const std::string& directory) {
  int archive[2];
  if (pipe2(archive, O_CLOEXEC) != 0) {
    return base::ErrnoStatus(errno, "pipe");
  }
  const base::UniqueFd their_archive(archive[0]);
  LayerProcess layer{.directory = directory, .archive = base::UniqueFd(archive[1])};
  int result[2];
  if (pipe2(result, O_CLOEXEC) != 0) {
    return base::ErrnoStatus(errno, "pipe");
  }
  layer.result.Reset(result[0]);
  const base::UniqueFd their_result(result[1]);
  // Fewer switches between two processes; refused beyond the user's limit, and only slower then.
  fcntl(layer.archive.get(), F_SETPIPE_SZ, kPipeBytes);
  const absl::Status sent =
      SendPacket(socket_.get(), order, {their_archive.get(), their_result.get()});
  if (!sent.ok()) {
    return absl::InternalError("the pull worker's forker died");
  }
  return layer;
}

absl::StatusOr<Verified> ReadResult(LayerProcess* layer) {
  layer->archive.Reset();
  absl::StatusOr<std::string> json =
      base::ReadFd(layer->result.get(), "the verifier's words", kMaxResultBytes);
  layer->result.Reset();
  if (!json.ok() || json->empty()) {
    return absl::InternalError("the layer's verifier died");
  }
  // May be a lying parser's own: the daemon believes the verdict only.
  ASSIGN_OR_RETURN(LayerMessage message, ParseLayerMessage(*json));
  if (auto* failed = std::get_if<Failed>(&message)) {
    return failed->status;
  }
  if (auto* verified = std::get_if<Verified>(&message)) {
    return std::move(*verified);
  }
  return absl::InternalError("the layer's verifier said something else");
}

}  // namespace imageservice::worker
