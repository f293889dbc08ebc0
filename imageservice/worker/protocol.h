// What the daemon and its pull worker (crisp-pull, one process per pull) say to each other.
//
// Transport: a SOCK_STREAM socketpair, descriptor kWorkerSocket in the worker. Each message is a
// frame: four bytes of length, big endian, then that many bytes of JSON with a member "type". A
// frame longer than kMaxFrameBytes, a message that does not parse and an unknown type are protocol
// errors: the reader gives the pull up.
//
// Conversation:
//
//   daemon → worker   request         once, first
//   worker → daemon   progress, token, warning   any number, any time
//   worker → daemon   resolved        once, when manifest and config are known and verified; an
//                                     OCI artifact counts as an image (artifact.h)
//   worker → daemon   layer           after `resolved`: a question per layer, bottom layer first
//   daemon → worker   answer          per question, in any order: have, wait or fetch; `wait` is
//                                     followed by a second answer, have or fetch
//   worker → daemon   layer_done      for every layer answered `fetch`, in any order
//   worker → daemon   stalled         when no endpoint has the rest of a layer for now; nothing
//                                     is sent then until
//   daemon → worker   resume          try again where it stopped
//   worker → daemon   done | error    last; then the worker exits
//
// EOF ends the worker at once; cancelling a pull is killing the worker. All its processes die with
// it. All but the parsers share one flock(2) on the staging directory: the lock is free once the
// last of them is gone, and only then may the directory be swept.
//
// Who talks to registries says that a layer is done, but what is in it the daemon takes from the
// layer's verifier alone, a process without a network: when `layer_done` arrives, the verdict on
// `directory` lies in kVerdictSocket (verdict.h), its diff ID has to be the config's, and the
// parser that wrote the directory has ended. The daemon renames the directory out of the staging
// directory, after which no process of the worker can reach it (Landlock), and only then does the
// deferred work on it.
//
// The worker is started with nothing but kWorkerSocket, kVerdictSocket and an environment that may
// hold HTTPS_PROXY, HTTP_PROXY (also as http_proxy, which is the name libcurl obeys) and NO_PROXY.
#pragma once

#include <time.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/context.h"
#include "base/mutex.h"
#include "base/unique_fd.h"

namespace imageservice::worker {

inline constexpr int kWorkerSocket = 3;
inline constexpr int kVerdictSocket = 4;  // SOCK_SEQPACKET, for verifiers only.
inline constexpr size_t kMaxFrameBytes = 64
                                         << 20;  // A few documents of 4 MiB, escaped, and change.
inline constexpr size_t kMaxManifestBytes = 4 << 20;  // Also an index's (OCI distribution-spec).
inline constexpr size_t kMaxConfigBytes = 4 << 20;
inline constexpr size_t kMaxLayers = 500;           // What one overlay mount can take.
inline constexpr size_t kMaxTokenBytes = 64 << 10;  // The daemon keeps some hundred of them.

// --- daemon → worker
// ------------------------------------------------------------------------------

// What to show to one endpoint. At most one of the three forms is used: registry_token before
// identity_token before username and password. All empty: anonymous.
struct Credentials {
  std::string username;
  std::string password;
  std::string identity_token;  // A refresh token: exchanged for a token at the realm.
  std::string registry_token;  // Sent as it is: "Authorization: Bearer".
};

// One place the image may come from.
struct Endpoint {
  std::string base_url;    // The API's root, "https://host[:port][/prefix]/v2" or "http://…":
                           // "/<repository>/manifests/…" is appended.
  std::string repository;  // The name there; a mirror may have another than the reference.
  std::string registry_namespace;    // Not empty: sent as "?ns=…", which registry is mirrored here.
  std::vector<std::string> headers;  // "Name: value", for this origin only; may be secret.
  bool can_resolve = true;           // It may be asked what a tag means.
  bool can_pull = true;              // It may be asked for content by digest.
  int connect_timeout_seconds = 30;
  bool insecure = false;  // Certificates are not verified; a redirect to http is followed.
  std::string ca_pem;     // Additional certificate authorities, as text; empty: the system's only.
  std::string client_certificate_pem;  // As text, with client_key_pem; empty: none.
  std::string client_key_pem;
  Credentials credentials;
  std::string bearer_token;  // From an earlier `token` message that has not expired; empty: none.
};

// What the image must run on, in Go's names: "linux", "amd64", "" or "v8".
struct Platform {
  std::string os;
  std::string architecture;
  std::string variant;
};

// A limit that is hit fails the pull with RESOURCE_EXHAUSTED.
struct Limits {
  uint64_t max_layer_bytes = uint64_t{64} << 30;  // Of one layer's uncompressed archive.
  uint64_t max_layer_entries = 4'000'000;
  // Of one layer beyond its first GiB; 0: any. gzip cannot reach 1033:1, so that the default stops
  // no honest layer of gzip, however many zeros it has; for zstd, which goes far beyond, it makes
  // of a blob of 1 MB at most 2.2 GB.
  uint64_t max_compression_ratio = 1100;
  int max_parallel_layers = 3;
  int max_parallel_ranges = 4;  // Of one large blob from one endpoint that is slower than we are.
  // A transfer that brings fewer bytes per second than this, on average over the time, has stalled.
  int stall_timeout_seconds = 30;
  uint64_t minimum_bytes_per_second = 1024;
};

// The request: `digest` is asked for, or `tag` when that is empty. `reference` is for messages
// only.
struct PullRequest {
  std::string reference;  // "quay.io/app/web:1.2".
  std::string tag;
  std::string digest;               // "sha256:…" (or sha512); wins over the tag.
  std::vector<Endpoint> endpoints;  // Tried in this order.
  // Not empty: the path of an archive that stands in for the one endpoint, whose URL is then for
  // messages only; `tag` is a selector of its listing (archive_protocol.h).
  std::string archive;
  Platform platform;
  Limits limits;
  // Absolute. Must exist, be empty, belong to root and have mode 0700; layers appear in it as "1",
  // "2"…
  std::string staging_directory;
};

enum class LayerDecision {
  kHave,   // It is in place, or will be without this worker: skip it.
  kWait,   // Another pull fetches it now: a second answer will follow.
  kFetch,  // This worker fetches it.
};

struct LayerAnswer {
  int index = 0;  // Of the question.
  LayerDecision decision = LayerDecision::kFetch;
};

// After `stalled`: go on where it stopped. Ignored at any other time.
struct Resume {};

using DaemonMessage = std::variant<PullRequest, LayerAnswer, Resume>;

// --- worker → daemon
// ------------------------------------------------------------------------------

// Compressed bytes of layers, at most four times a second and only when they grew.
struct Progress {
  uint64_t bytes_done = 0;
  uint64_t bytes_total = 0;  // Of the layers this worker fetches, as known so far.
};

// A new bearer token, worth keeping for (base URL, repository, credentials) of that endpoint.
struct Token {
  int endpoint = 0;        // Index into the request's endpoints.
  std::string token;       // Secret.
  int64_t expires_at = 0;  // Seconds since the epoch, already a little before the real expiry.
};

// Something the daemon should log: Landlock is missing, a registry sent a Warning header.
struct Warning {
  std::string message;
};

// The documents, exactly as received; each has the digest it was asked for by.
struct Resolved {
  std::string manifest_digest;  // "sha256:…" of the chosen platform's manifest.
  std::string index_digest;     // Of the outermost index; empty if the reference named a manifest.
  // The indexes on the way from the reference to the manifest, the outermost first.
  std::vector<std::string> indexes;
  std::string media_type;  // Of the manifest.
  std::string manifest;
  std::string config;
  std::string image_id;  // SHA-256 of the config, of an artifact that of the manifest: 64
                         // hexadecimal digits.
  int endpoint = 0;      // Which one answered.
};

// The question "have, wait or fetch?".
struct LayerQuestion {
  int index = 0;         // 0 is the bottom layer.
  std::string chain_id;  // 64 hexadecimal digits, as are diff_id and parent.
  std::string parent;    // Chain ID of the layer below; empty for the bottom, and always for an
                         // artifact's file.
  std::string diff_id;
  std::string digest;  // Of the compressed blob: "sha256:…".
  uint64_t size = 0;   // Of the compressed blob.
};

// What the parser may not or cannot do. To be done in the listed order, in chain order of the
// layers, with paths resolved beneath the layer's root without following symlinks. Paths come from
// a hostile archive: they are relative and have no "..", "." or empty component (the root itself is
// "."), but they may name something that is not of the expected type.
struct DeferredOperation {
  enum class Kind {
    kOpaque,        // Set trusted.overlay.opaque = "y" on the directory `path`.
    kCopyMetadata,  // `path` is a directory that exists only because something is in it (now mode
                    // 0755, root): take owner, mode, xattrs and times of the same path in the
                    // topmost lower layer that shows it as a directory; if that shows a symlink,
                    // move the content where it leads; else leave it.
    kHardLink,  // Make `path`, which does not exist, a hard link of the file `target`: looked for
                // in this layer first, then in the lower layers; NOT_FOUND fails the pull. The
                // parent of `path` exists; unless a kCopyMetadata of it follows, its times
                // are already right and have to be kept.
    kNode,  // Make `path`, which does not exist, the device `node`. Of its parent holds the same.
  };
  // A device, with what an archive may say of it. The same time is its atime and mtime.
  struct Node {
    bool is_block = false;
    uint32_t major = 0;  // Never a character device 0:0, which would be a whiteout.
    uint32_t minor = 0;
    uint32_t mode = 0;  // At most 07777.
    uint32_t uid = 0;
    uint32_t gid = 0;
    timespec mtime = {};
  };
  Kind kind = Kind::kOpaque;
  std::string path;    // Bytes, not necessarily UTF-8.
  std::string target;  // kHardLink only.
  Node node = {};      // kNode only.
};

// What the deferred operations of one layer may be together. In the daemon each takes some 150
// bytes beside its paths until the layer is in place, and a few times that while the message is
// read.
inline constexpr size_t kMaxDeferredOperations = 100'000;
inline constexpr size_t kMaxDeferredBytes = 6 << 20;  // Of their paths and targets.

// Counts the deferred operations of one layer.
class DeferredTotal {
 public:
  // RESOURCE_EXHAUSTED, naming the limit, once it is too much.
  absl::Status Add(const DeferredOperation& operation);

 private:
  size_t operations_ = 0;
  size_t bytes_ = 0;
};

// A layer was fetched and its verdict sent.
struct LayerDone {
  int index = 0;
  std::string directory;  // The name of its folder in the staging directory.
};

// The worker can go on later, with all it has got so far, but not now: no layer moves any more, and
// each that is left could be had from no endpoint, one of which failed in a way that may pass.
// Nothing follows before `resume`; answers to questions are taken, but what they ask for waits too.
// After `resume` every endpoint is tried anew, from the offset reached; `stalled` may come again.
// The status is as Failed's, and UNAVAILABLE; it names every endpoint. While other layers still
// come in, a layer that nobody has is tried again by itself after 5 s, 10 s, … 60 s. Manifests and
// configs do not stall: their errors are final.
struct Stalled {
  absl::Status status;
};

// Where the time of a pull's layers went, summed over the layers, in microseconds. Stages overlap.
struct Stages {
  uint64_t fetch = 0;    // Waiting for bytes of the registry.
  uint64_t digest = 0;   // Hashing blobs and archives.
  uint64_t inflate = 0;  // Decompressing.
  uint64_t unpack = 0;   // Waiting for the archives' parsers.
};

// The pull succeeded: every layer is either answered `have` or was reported by `layer_done`.
struct Done {
  Stages stages;
};

// The pull failed. The message is complete (it begins with "pull <reference>: ") and holds no
// secret. Codes: INVALID_ARGUMENT (manifest or archive is bad), NOT_FOUND, UNAUTHENTICATED,
// PERMISSION_DENIED, UNAVAILABLE, DATA_LOSS (a digest is wrong), FAILED_PRECONDITION (not an image
// for this platform, or no image), RESOURCE_EXHAUSTED, INTERNAL.
struct Failed {
  absl::Status status;
};

using WorkerMessage = std::variant<Progress, Token, Warning, Resolved, LayerQuestion, LayerDone,
                                   Stalled, Done, Failed>;

// --- within the worker, about one layer ---------------------------------------------------------

// Parser → verifier, which passes it on to the daemon unread: what was made of the archive.
struct UnpackedLayer {
  uint64_t bytes = 0;  // Disk space taken.
  uint64_t inodes = 0;
  std::vector<DeferredOperation> deferred;
};

// Verifier → network process: the verdict is sent.
struct Verified {
  std::string diff_id;  // Of the archive, or ArtifactDiffId: 64 hexadecimal digits.
  Stages stages;        // `digest` and `unpack` only.
};

// Each is said once, before the end. Instead of either comes Failed.
using LayerMessage = std::variant<UnpackedLayer, Verified, Failed>;

// --- codec
// ----------------------------------------------------------------------------------------

// The JSON of a message, without the frame.
std::string Encode(const DaemonMessage& message);
std::string Encode(const WorkerMessage& message);
std::string Encode(const LayerMessage& message);

// The message in `json`; INVALID_ARGUMENT for anything malformed, with limits checked: indexes are
// not negative, chain and diff IDs are 64 hexadecimal digits, `directory` is a number, and deferred
// paths are clean as promised above. RESOURCE_EXHAUSTED for too much deferred work.
absl::StatusOr<DaemonMessage> ParseDaemonMessage(std::string_view json);
absl::StatusOr<WorkerMessage> ParseWorkerMessage(std::string_view json);
absl::StatusOr<LayerMessage> ParseLayerMessage(std::string_view json);

// Whether a layer's folder may be called so: a number of at most ten digits.
bool IsLayerDirectory(std::string_view name);

// The frames in a stream of bytes that arrives in pieces.
class FrameReader {
 public:
  explicit FrameReader(size_t max_frame_bytes = kMaxFrameBytes) : max_bytes_(max_frame_bytes) {}
  void Append(std::string_view bytes) { buffer_.append(bytes); }
  // The next whole frame, nullopt when more bytes are needed; RESOURCE_EXHAUSTED for one too long.
  absl::StatusOr<std::optional<std::string>> Next();
  // Whether a part of a frame is waiting: EOF now means it was cut.
  bool InFrame() const { return buffer_.size() > consumed_; }

 private:
  const size_t max_bytes_;
  std::string buffer_;
  size_t consumed_ = 0;
};

// One end of the socketpair. Send is thread-safe; Receive and TryReceive are for one thread at a
// time, which need not be the sending one.
class Channel {
 public:
  explicit Channel(base::UniqueFd socket) : socket_(std::move(socket)) {}

  // To poll for POLLIN beside other descriptors; TryReceive until it has nothing, then poll again.
  int fd() const { return socket_.get(); }

  // Sends one frame; blocks while the peer does not read, at most until the context's deadline or
  // cancellation. UNAVAILABLE when the peer is gone. After an error the channel is broken.
  absl::Status Send(const base::Context& ctx, std::string_view json);

  // The next frame if it is here, nullopt if not yet. OUT_OF_RANGE: the peer closed its end between
  // two frames; UNAVAILABLE: within one; RESOURCE_EXHAUSTED: a frame too long.
  absl::StatusOr<std::optional<std::string>> TryReceive();

  // Waits for the next frame. Errors as TryReceive, and those of the context.
  absl::StatusOr<std::string> Receive(const base::Context& ctx);

 private:
  base::UniqueFd socket_;
  base::Mutex send_mutex_;
  FrameReader reader_;
};

}  // namespace imageservice::worker
