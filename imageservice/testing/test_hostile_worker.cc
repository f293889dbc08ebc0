// For tests: a pull worker whose network process was taken over. It starts as crisp-pull does, with
// the same forker, verifiers and sandbox, then does what the tag of its reference says:
// "<layers>.<behaviour>". Each letter is a layer, whose archive is a text; "z" stands for an
// archive that takes its parser over (test_hostile_parser.cc), with the behaviour
// "parser_<attack>". With "artifact-…" each letter is a file of an artifact, called like it.
// $OUTSIDE, $STORE and $DAEMON say what to attack.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <functional>
#include <limits>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_replace.h"
#include "base/json.h"
#include "base/sha.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "imageservice/testing/test_break_out.h"
#include "imageservice/worker/fd_packet.h"
#include "imageservice/worker/forker.h"
#include "imageservice/worker/startup.h"
#include "imageservice/worker/verdict.h"

namespace imageservice::worker {
namespace {

// The image as its config describes it.
struct Layer {
  std::string archive;
  std::string diff_id;
  std::string chain_id;
  ArtifactFile file;  // Of an artifact.
};

std::string ChainOf(const std::string& parent, const std::string& diff_id) {
  return parent.empty() ? diff_id
                        : base::Sha256Hex(base::StrCat("sha256:", parent, " sha256:", diff_id));
}

// What a parser is told to do: "parser_defer_opaque_DOTDOT" → "attack defer opaque ../file".
std::string ParserAttack(const std::string& behaviour) {
  return absl::StrReplaceAll(behaviour, {{"parser_", "attack "},
                                         {"_", " "},
                                         {"DOTDOT", "../file"},
                                         {"ABSOLUTE", "/etc"},
                                         {"EMPTY", "a//b"},
                                         {"OUTSIDE", std::getenv("OUTSIDE")}});
}

[[noreturn]] void Hang() {
  for (;;) {
    poll(nullptr, 0, -1);
  }
}

class HostileWorker {
 public:
  HostileWorker(Channel* channel, Forker* forker, PullRequest request)
      : channel_(*channel), forker_(*forker), request_(std::move(request)) {
    const size_t dot = request_.tag.find('.');
    behaviour_ = request_.tag.substr(dot + 1);
    for (const char letter : request_.tag.substr(0, dot)) {
      Layer layer;
      layer.archive =
          letter == 'z' ? ParserAttack(behaviour_) : base::StrCat("layer ", std::string(1, letter));
      layer.diff_id = base::Sha256Hex(layer.archive);
      layer.chain_id = ChainOf(layers_.empty() ? "" : layers_.back().chain_id, layer.diff_id);
      if (IsArtifact()) {
        layer.file = {std::string(1, letter), base::StrCat("sha256:", layer.diff_id)};
        layer.diff_id = layer.chain_id = ArtifactDiffId(layer.file);
      }
      layers_.push_back(layer);
    }
  }

  absl::Status Run() {
    RETURN_IF_ERROR(BeforeDocuments());
    Resolved documents = Documents();
    LieInDocuments(&documents);
    RETURN_IF_ERROR(Send(documents));
    RETURN_IF_ERROR(Ask());
    if (behaviour_ == "done-at-once") {
      return Send(Done{});
    }
    return Answers();
  }

 private:
  bool Is(const char* behaviour) const { return behaviour_ == behaviour; }
  bool IsArtifact() const { return behaviour_.starts_with("artifact-"); }

  absl::Status Send(const WorkerMessage& message) { return SendRaw(Encode(message)); }
  absl::Status SendRaw(const std::string& json) { return channel_.Send(base::Context(), json); }

  absl::Status BeforeDocuments() {
    const std::string deep(1 << 20, '[');
    const std::string huge(kMaxFrameBytes, 'x');
    if (Is("silence")) {
      Hang();
    } else if (Is("deep-frame")) {
      return SendRaw(deep);
    } else if (Is("garbage-frame")) {
      return SendRaw(huge);
    } else if (Is("endless-frame")) {
      const std::string header = "\xff\xff\xff\xff";
      write(kWorkerSocket, header.data(), header.size());
      while (write(kWorkerSocket, huge.data(), huge.size()) > 0) {
      }
    } else if (Is("half-frame")) {
      write(kWorkerSocket, "\x00\x00\x10\x00{", 5);
      Hang();
    } else if (Is("flood")) {
      for (uint64_t i = 0;; ++i) {
        RETURN_IF_ERROR(Send(Progress{i, i}));
        RETURN_IF_ERROR(Send(Token{.endpoint = 0, .token = std::to_string(i), .expires_at = 1}));
      }
    } else if (Is("absurd-progress")) {
      RETURN_IF_ERROR(Send(Progress{std::numeric_limits<int64_t>::max(), 0}));
    } else if (Is("break-out")) {
      const std::string successes = testing::BreakOut(testing::TargetOfEnvironment());
      return successes.empty() ? absl::OkStatus() : Send(Failed{absl::UnknownError(successes)});
    }
    return absl::OkStatus();
  }

  Resolved ArtifactDocuments() const {
    std::string list;
    for (const Layer& layer : layers_) {
      list += base::StrCat(list.empty() ? "" : ",", R"({"mediaType":"text/plain","digest":")",
                           layer.file.digest, R"(","size":7,"annotations":{)",
                           R"("org.opencontainers.image.title":")", layer.file.name, R"("}})");
    }
    Resolved resolved;
    resolved.config = "{}";
    resolved.manifest = base::StrCat(
        R"({"artifactType":"text/x","config":{"mediaType":"application/vnd.oci.empty.v1+json",)",
        R"("digest":"sha256:)", base::Sha256Hex("{}"), R"(","size":2},"layers":[)", list, "]}");
    resolved.image_id = base::Sha256Hex(Is("artifact-lie-id") ? "{}" : resolved.manifest);
    resolved.manifest_digest = base::StrCat("sha256:", base::Sha256Hex(resolved.manifest));
    resolved.media_type = "application/vnd.oci.image.manifest.v1+json";
    return resolved;
  }

  Resolved Documents() const {
    if (IsArtifact()) {
      return ArtifactDocuments();
    }
    std::string list;
    for (const Layer& layer : layers_) {
      list += base::StrCat(list.empty() ? "" : ",", "\"sha256:", layer.diff_id, "\"");
    }
    Resolved resolved;
    resolved.config = base::StrCat(
        R"({"config":{"Cmd":["/bin/sh"]},"rootfs":{"type":"layers","diff_ids":[)", list, "]}}");
    resolved.image_id = base::Sha256Hex(resolved.config);
    resolved.manifest =
        base::StrCat(R"({"config":{"digest":"sha256:)", resolved.image_id, R"("}})");
    resolved.manifest_digest = base::StrCat("sha256:", base::Sha256Hex(resolved.manifest));
    resolved.media_type = "application/vnd.oci.image.manifest.v1+json";
    return resolved;
  }

  void LieInDocuments(Resolved* documents) const {
    const std::string other = base::StrCat("sha256:", std::string(64, '7'));
    if (Is("lie-manifest-digest")) {
      documents->manifest_digest = other;
    } else if (Is("lie-image-id")) {
      documents->image_id = std::string(64, '7');
    } else if (Is("lie-config")) {
      documents->config += " ";
    } else if (Is("lie-config-and-id")) {  // The manifest names another.
      documents->config += " ";
      documents->image_id = base::Sha256Hex(documents->config);
    } else if (Is("lie-index-digest")) {
      documents->index_digest = other;
      documents->indexes = {"{}"};
    } else if (Is("lie-unlisted")) {
      documents->indexes = {R"({"manifests":[]})"};
      documents->index_digest = base::StrCat("sha256:", base::Sha256Hex(documents->indexes[0]));
    } else if (Is("lie-endpoint")) {
      documents->endpoint = 1'000'000;
    }
  }

  LayerQuestion Question(size_t index) const {
    LayerQuestion question;
    question.index = static_cast<int>(index);
    question.chain_id = layers_[index].chain_id;
    const bool is_alone = IsArtifact() && !Is("artifact-lie-parent");
    question.parent = index == 0 || is_alone ? "" : layers_[index - 1].chain_id;
    question.diff_id = layers_[index].diff_id;
    question.digest = "sha256:" + question.diff_id;
    question.size = layers_[index].archive.size();
    return question;
  }

  absl::Status Ask() {
    for (size_t i = 0; i < layers_.size(); ++i) {
      LayerQuestion question = Question(i);
      if (i + 1 == layers_.size()) {
        if (Is("lie-chain-id")) question.chain_id = ChainOf("", base::Sha256Hex("layer b"));
        if (Is("lie-diff-id")) question.diff_id = base::Sha256Hex("layer b");
        if (Is("lie-parent")) question.parent = std::string(64, '7');
        if (Is("lie-index")) question.index += 1;
        if (Is("lie-index-0")) question.index = 0;
        if (Is("lie-size")) question.size = std::numeric_limits<int64_t>::max();
      }
      RETURN_IF_ERROR(Send(question));
    }
    return Is("ask-too-much") ? Send(Question(layers_.size() - 1)) : absl::OkStatus();
  }

  absl::Status Answers() {
    for (size_t settled = 0; settled < layers_.size(); ++settled) {
      ASSIGN_OR_RETURN(const std::string json, channel_.Receive(base::Context()));
      ASSIGN_OR_RETURN(const DaemonMessage message, ParseDaemonMessage(json));
      const LayerAnswer answer = std::get<LayerAnswer>(message);
      if (answer.decision == LayerDecision::kFetch) {
        RETURN_IF_ERROR(Fetch(static_cast<size_t>(answer.index)));
      }
    }
    if (Is("for-another")) {  // A layer that was here before.
      ASSIGN_OR_RETURN(const std::string directory, Verify(layers_[0].archive));
      RETURN_IF_ERROR(Send(LayerDone{0, directory}));
    }
    if (Is("swap")) {
      RETURN_IF_ERROR(Send(LayerDone{1, "2"}));
      RETURN_IF_ERROR(Send(LayerDone{2, "1"}));
    }
    RETURN_IF_ERROR(Send(Done{}));
    if (Is("talks-after-done")) {
      return SendRaw("x");
    }
    return absl::OkStatus();
  }

  // Has `archive` unpacked and a verdict sent; the result is the folder.
  absl::StatusOr<std::string> Verify(const std::string& archive) {
    ASSIGN_OR_RETURN(LayerProcess process, forker_.StartLayer(std::to_string(++directories_)));
    if (write(process.archive.get(), archive.data(), archive.size()) < 0) {
      return absl::InternalError("cannot write the archive");
    }
    RETURN_IF_ERROR(ReadResult(&process).status());
    return process.directory;
  }

  // Has the file made, or something else of the same bytes or name.
  absl::Status FetchFile(size_t index) {
    ArtifactFile file = layers_[index].file;
    std::string bytes = layers_[index].archive;
    if (Is("artifact-other-content")) bytes += "x";
    if (Is("artifact-other-name")) file.name = "other";
    if (Is("artifact-other-algorithm")) file.digest = "sha512:" + std::string(128, '0');
    if (Is("artifact-climbing-name")) file.name = "../../layers/x";
    if (Is("artifact-absolute-name")) file.name = std::getenv("OUTSIDE") + std::string("/file");
    if (Is("artifact-wild-digest")) file.digest = "sha256:x";
    const std::string directory = std::to_string(++directories_);
    ASSIGN_OR_RETURN(LayerProcess process, Is("artifact-as-archive")
                                               ? forker_.StartLayer(directory)
                                               : forker_.StartFile(directory, file));
    write(process.archive.get(), bytes.data(), bytes.size());
    ReadResult(&process).status().IgnoreError();
    return Send(LayerDone{static_cast<int>(index), process.directory});
  }

  absl::Status Fetch(size_t index) {
    const int number = static_cast<int>(index);
    if (IsArtifact()) {
      return FetchFile(index);
    }
    if (Is("archive-as-file")) {
      layers_[index].file = {"f", "sha256:" + layers_[index].diff_id};
      return FetchFile(index);
    }
    if (Is("no-verdict") || Is("missing-layer")) {
      return Is("no-verdict") ? Send(LayerDone{number, "1"}) : absl::OkStatus();
    }
    if (Is("forged-verdict")) {
      return ForgeVerdict(index);
    }
    if (Is("other-content")) {
      ASSIGN_OR_RETURN(const std::string directory, Verify("other bytes"));
      return Send(LayerDone{number, directory});
    }
    if (Is("climbing-order") || Is("long-order") || Is("taken-order")) {
      return OrderBadly(number);
    }
    if (Is("crowd")) {
      return Crowd();
    }
    ASSIGN_OR_RETURN(const std::string directory, Verify(layers_[index].archive));
    if (Is("swap")) {
      return absl::OkStatus();
    }
    if (Is("replace")) {
      Replace(directory);
    }
    if (Is("folder-climbs") || Is("folder-absolute") || Is("folder-of-another")) {
      const std::string name = Is("folder-climbs")     ? base::StrCat("../", directory)
                               : Is("folder-absolute") ? std::getenv("OUTSIDE")
                                                       : "../../layers";
      return SendRaw(base::DumpJson(
          base::Json{{"type", "layer_done"}, {"index", index}, {"directory", name}}));
    }
    RETURN_IF_ERROR(Send(LayerDone{Is("wrong-index") ? 499 : number, directory}));
    return Is("twice") ? Send(LayerDone{number, directory}) : absl::OkStatus();
  }

  // Says what a verifier would say, on every descriptor there is.
  absl::Status ForgeVerdict(size_t index) {
    ASSIGN_OR_RETURN(const std::string directory, Verify("other bytes"));
    const std::string text = EncodeVerdict({directory, layers_[index].diff_id});
    const int file = open("/etc/hosts", O_RDONLY);
    if (MakeUnpackedFile().ok()) {
      return absl::UnknownError("made a file in memory");
    }
    for (int fd = 4; fd < 64; ++fd) {
      SendPacket(fd, text, {file}).IgnoreError();
      write(fd, text.data(), text.size());
    }
    return Send(LayerDone{static_cast<int>(index), directory});
  }

  absl::Status OrderBadly(int index) {
    const std::string name = Is("climbing-order") ? "../../layers/7"
                             : Is("long-order")   ? std::string(200, '1')
                                                  : "1";
    if (Is("taken-order")) {
      RETURN_IF_ERROR(Verify("layer c").status());
    }
    absl::StatusOr<LayerProcess> process = forker_.StartLayer(name);
    if (process.ok()) {
      const absl::StatusOr<Verified> verified = ReadResult(&*process);
      if (verified.ok()) {
        return absl::UnknownError("the order was taken");
      }
    }
    return Send(LayerDone{index, "7"});
  }

  // Starts far more than it may; then nothing moves.
  absl::Status Crowd() {
    std::vector<LayerProcess> crowd;
    for (int i = 0; i < 40; ++i) {
      ASSIGN_OR_RETURN(LayerProcess process, forker_.StartLayer(std::to_string(100 + i)));
      crowd.push_back(std::move(process));
    }
    Hang();
  }

  // After the verdict: the folder is out of its reach.
  void Replace(const std::string& directory) const {
    const std::string path = base::StrCat(request_.staging_directory, "/", directory);
    const std::string aside = path + "-aside";
    const bool is_changed = rename(path.c_str(), aside.c_str()) == 0 ||
                            symlink("/etc", path.c_str()) == 0 ||
                            unlink((path + "/content").c_str()) == 0 ||
                            open((path + "/content").c_str(), O_WRONLY) >= 0 ||
                            open((path + "/more").c_str(), O_WRONLY | O_CREAT, 0600) >= 0;
    if (is_changed) {
      abort();
    }
  }

  Channel& channel_;
  Forker& forker_;
  const PullRequest request_;
  std::string behaviour_;
  std::vector<Layer> layers_;
  int directories_ = 0;
};

absl::Status Run(Channel* channel) {
  ASSIGN_OR_RETURN(const std::unique_ptr<Forker> forker, StartForker());
  ASSIGN_OR_RETURN(const PullRequest request, ReceiveRequest(channel));
  ASSIGN_OR_RETURN(const base::UniqueFd lock, BecomeNetworkProcess(request, forker.get(), channel));
  return HostileWorker(channel, forker.get(), request).Run();
}

}  // namespace
}  // namespace imageservice::worker

int main() {
  namespace worker = imageservice::worker;
  signal(SIGPIPE, SIG_IGN);
  worker::Channel channel{base::UniqueFd(worker::kWorkerSocket)};
  const absl::Status status = worker::Run(&channel);
  if (!status.ok()) {
    channel.Send(base::Context(), Encode(worker::WorkerMessage(worker::Failed{status})))
        .IgnoreError();
  }
  return status.ok() ? 0 : 1;
}
