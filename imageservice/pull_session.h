// One pull: the worker process, the answers to its questions, the commit of what it made.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/context.h"
#include "base/launcher.h"
#include "base/subprocess.h"
#include "imageservice/event.h"
#include "imageservice/reference.h"
#include "imageservice/resolved_image.h"
#include "imageservice/store/images.h"
#include "imageservice/store/layers.h"
#include "imageservice/store/trash.h"
#include "imageservice/worker/protocol.h"
#include "imageservice/worker/verdict.h"

namespace imageservice {

// One server to ask, and the name an image found there gets.
struct PullSource {
  Reference name;
  worker::Endpoint endpoint;
};

// An image of an archive, to be had instead of asking registries.
struct PullArchive {
  std::string path;
  std::string image;             // Of the archive's listing (worker/archive_protocol.h).
  std::vector<Reference> names;  // What it is called from now on; none is possible.
  bool has_manifest = false;     // Its manifest's digest is one by which others know it, too.
};

// What to pull from where. All sources have the same tag and digest; with an archive there are
// none.
struct PullPlan {
  std::string reference;  // For messages.
  std::vector<PullSource> sources;
  std::optional<PullArchive> archive;
};

// How far a pull is.
struct PullProgress {
  std::string reference;
  absl::Time started;
  uint64_t bytes_done = 0;  // Compressed bytes of the layers this pull fetches itself.
  uint64_t bytes_total = 0;
  int layers_done = 0;
  int layers_total = 0;  // 0 until the manifest is known.
  bool stalled = false;  // It stands still until somebody asks for the image again.
};

// What a session asks of its puller, on Run's thread.
struct PullHooks {
  // Hears of every change of the progress.
  std::function<void(const PullProgress&)> report;
  // No endpoint has the rest for now; `why` is the error for those who wait. Blocks until the pull
  // is to go on (OK) or to end (an error). `wanted` is set when another pull wants its layers;
  // `worker` becomes readable when the worker ends.
  std::function<absl::Status(const base::Context&, const absl::Status& why, const Event& wanted,
                             int worker)>
      stalled;
};

// What all pulls share. The pointers are borrowed and outlive every session.
struct PullEnvironment {
  std::string worker_path;
  std::vector<std::string> worker_environment;  // "NAME=value": proxies.
  std::string staging_directory;
  worker::Platform platform;
  worker::Limits limits;
  std::string worker_cgroup;  // Relative to the hierarchies' roots; empty: the launcher's own.
  // A pull that makes no progress for so long fails with UNAVAILABLE. It does not count while
  // another pull fetches a layer for it.
  absl::Duration progress_timeout = absl::InfiniteDuration();
  // How long a pull that stands still is kept for somebody to ask for the image again.
  absl::Duration stalled_timeout = absl::Minutes(6);
  const base::Launcher* launcher = nullptr;
  LayerStore* layers = nullptr;
  ImageStore* images = nullptr;
  Trash* trash = nullptr;
  // Called from the session's thread, with the index of the source a token is for.
  std::function<void(const worker::Endpoint&, const worker::Token&)> keep_token;
};

// Runs one pull on the calling thread. Used once. Whatever the end, the worker is dead, its staging
// directory gone and every claim free when Run returns.
class PullSession {
 public:
  PullSession(const PullEnvironment& environment, PullPlan plan, PullHooks hooks);

  // The committed image. The context's end kills the worker. The errors are the worker's own (see
  // worker::Failed), UNAVAILABLE also standing for no registry answering; INTERNAL when the worker
  // breaks the protocol or dies.
  absl::StatusOr<ImagePtr> Run(const base::Context& ctx);

  // Where the time went, for the log; after Run.
  std::string Timing() const;

 private:
  // A layer of the image, as the worker asked for it.
  struct Layer {
    worker::LayerQuestion question;
    LayerStore::Claim claim = LayerStore::Claim::kOther;
    std::optional<worker::UnpackedLayer> done;
  };

  absl::StatusOr<base::Subprocess> StartWorker();
  worker::PullRequest Request() const;
  // An archive is the only endpoint.
  bool HasEndpoint(int endpoint) const {
    const size_t count = plan_.archive.has_value() ? 1 : plan_.sources.size();
    return endpoint >= 0 && static_cast<size_t>(endpoint) < count;
  }
  absl::Status Converse(const base::Context& ctx, base::Subprocess* process);
  absl::Status Send(const base::Context& ctx, const worker::DaemonMessage& message);
  absl::Status ReceiveAll(const base::Context& ctx);
  absl::Status WaitForNews(const base::Context& ctx);
  void NoteProgress() { progressed_ = std::chrono::steady_clock::now(); }
  absl::Duration TimeLeftForProgress() const;
  absl::Status Handle(const base::Context& ctx, worker::WorkerMessage message);
  void OnWarning(const std::string& message);
  absl::Status OnToken(const worker::Token& token);
  absl::Status OnResolved(worker::Resolved resolved);
  absl::Status OnQuestion(const base::Context& ctx, worker::LayerQuestion question);
  absl::Status OnLayerDone(const worker::LayerDone& done);
  absl::Status OnStalled(const base::Context& ctx, const absl::Status& why);
  absl::Status OnDone(const worker::Done& done);
  absl::Status AnswerWaiting(const base::Context& ctx);
  absl::Status Answer(const base::Context& ctx, const Layer& layer);
  absl::Status CommitLayers(const base::Context& ctx);
  absl::Status CommitLayer(const base::Context& ctx, const Layer& layer);
  absl::StatusOr<ImagePtr> CommitImage();
  void CleanUp();
  void ReportLayers();
  std::string FinishedPath(int index) const;

  const PullEnvironment& environment_;
  const PullPlan plan_;
  const PullHooks hooks_;
  const std::string id_;     // Of this session: random.
  const std::string owner_;  // In the layer store.
  const std::string staging_;
  Event wake_;
  std::optional<worker::Channel> channel_;
  std::optional<worker::VerdictBox> verdicts_;
  std::optional<worker::Resolved> resolved_;
  ResolvedImage image_;
  std::vector<Layer> layers_;
  size_t committed_ = 0;  // So many layers from the bottom on are in the store.
  int warnings_ = 0;
  bool worker_done_ = false;
  bool worker_failed_ = false;  // It said why.
  bool worker_lost_ = false;    // Its socket has ended or makes no sense.
  PullProgress progress_;
  std::chrono::steady_clock::time_point progressed_;  // The last progress; of no clock that is set.
  worker::Stages stages_;
  absl::Duration commit_time_;
};

}  // namespace imageservice
