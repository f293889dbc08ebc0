// ImageService: pulls with progress, and loading from archives.
#include <algorithm>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_join.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "imageservice/archive_worker.h"
#include "imageservice/image_service.h"
#include "imageservice/resolved_image.h"

namespace imageservice {
namespace {

constexpr absl::Duration kListTimeout = absl::Minutes(5);
constexpr size_t kMaxNamesTold = 5;

crisp::v1::Event ProgressEvent(const PullProgress& progress) {
  crisp::v1::Event event;
  event.mutable_progress()->set_bytes_done(progress.bytes_done);
  event.mutable_progress()->set_bytes_total(progress.bytes_total);
  event.mutable_progress()->set_layers_done(progress.layers_done);
  event.mutable_progress()->set_layers_total(progress.layers_total);
  event.mutable_progress()->set_stalled(progress.stalled);
  return event;
}

// Foreign text for messages.
std::string Printable(const std::string& name) { return absl::CHexEscape(name.substr(0, 200)); }

std::string NamesOf(const worker::ArchivedImage& image) {
  return image.names.empty() ? std::string("(no name)") : Printable(image.names.front());
}

std::string NamesOf(const std::vector<worker::ArchivedImage>& images) {
  std::vector<std::string> names;
  for (size_t i = 0; i < std::min(images.size(), kMaxNamesTold); ++i) {
    names.push_back(NamesOf(images[i]));
  }
  return base::StrCat(absl::StrJoin(names, ", "), images.size() > kMaxNamesTold ? ", …" : "");
}

// The names an image gets: what its archive says, or what the user says. What is no name is told
// in `note`.
std::vector<Reference> ParseNames(const std::vector<std::string>& texts, std::string* note) {
  std::vector<Reference> names;
  for (const std::string& text : texts) {
    absl::StatusOr<Reference> name = Reference::Parse(text);
    if (!name.ok() || name->tag().empty()) {
      *note = base::StrCat("\"", Printable(text), "\" is not a name with a tag and was left out");
    } else if (std::ranges::find(names, *name) == names.end()) {
      names.push_back(*std::move(name));
    }
  }
  if (names.empty() && note->empty()) {
    *note = "the archive gives it no name: use its id, or load it with --name";
  }
  return names;
}

}  // namespace

absl::Status ImageService::Pull(const base::Context& ctx, const crisp::v1::PullRequest& request,
                                const Emit& emit) {
  const std::string& name = request.image().image();
  if (name.empty()) {
    return absl::InvalidArgumentError("the request names no image");
  }
  const base::LogField field("image", name);
  cri::PullImageRequest wanted;
  *wanted.mutable_image() = request.image();
  *wanted.mutable_auth() = request.auth();
  ASSIGN_OR_RETURN(const ImagePtr image,
                   PullWatched(ctx, wanted, [&](const PullProgress& progress) {
                     emit(ProgressEvent(progress));
                   }));
  crisp::v1::Event event;
  event.mutable_image()->set_id(image->id);
  *event.mutable_image()->mutable_names() = {image->tags.begin(), image->tags.end()};
  emit(event);
  return absl::OkStatus();
}

absl::Status ImageService::Load(const base::Context& ctx, const crisp::v1::LoadRequest& request,
                                const Emit& emit) {
  if (!request.path().starts_with('/')) {
    return absl::InvalidArgumentError("the path of the archive is not absolute");
  }
  if (!request.name().empty()) {
    ASSIGN_OR_RETURN(const Reference name, Reference::Parse(request.name()));
    if (!name.digest().empty()) {
      return absl::InvalidArgumentError("a name with a digest cannot be given to an image");
    }
  }
  worker::ListRequest list = {.path = request.path(), .platform = environment_.platform};
  ASSIGN_OR_RETURN(const worker::ArchiveReply reply,
                   AskArchiveWorker(ctx.WithTimeout(kListTimeout), environment_, list,
                                    [](const worker::Progress&) {}));
  const auto* listing = std::get_if<worker::ArchiveListing>(&reply);
  if (listing == nullptr) {
    return BrokenProtocol("no listing");
  }
  if (listing->images.empty()) {
    return absl::InvalidArgumentError(base::StrCat(request.path(), ": there is no image in it"));
  }
  if (!request.name().empty() && listing->images.size() > 1) {
    return absl::InvalidArgumentError(base::StrCat(request.path(), ": one name for the ",
                                                   listing->images.size(),
                                                   " images in it: ", NamesOf(listing->images)));
  }
  for (const worker::ArchivedImage& archived : listing->images) {
    crisp::v1::Event event;
    *event.mutable_image() = LoadOne(ctx, request, archived, emit);
    RETURN_IF_ERROR(ctx.Check());
    emit(event);
  }
  return absl::OkStatus();
}

crisp::v1::Image ImageService::LoadOne(const base::Context& ctx,
                                       const crisp::v1::LoadRequest& request,
                                       const worker::ArchivedImage& archived, const Emit& emit) {
  crisp::v1::Image result;
  std::string note;
  PullArchive archive = {
      .path = request.path(),
      .image = archived.selector,
      .names = ParseNames(
          request.name().empty() ? archived.names : std::vector<std::string>{request.name()},
          &note),
      .has_manifest = archived.has_manifest};
  PullPlan plan;
  plan.reference =
      base::StrCat(archive.names.empty() ? NamesOf(archived) : archive.names.front().str(),
                   " from ", request.path());
  for (const Reference& name : archive.names) {
    result.add_names(name.str());
  }
  plan.archive = std::move(archive);
  const base::LogField field("image", plan.reference);
  const absl::StatusOr<ImagePtr> image = puller_->Pull(
      ctx, std::move(plan), [&](const PullProgress& progress) { emit(ProgressEvent(progress)); });
  if (image.ok()) {
    result.set_id((*image)->id);
    result.set_note(note);
  } else {
    result.set_error_code(static_cast<int32_t>(image.status().code()));
    result.set_error(std::string(image.status().message()));
    if (result.names().empty()) {
      result.add_names(NamesOf(archived));
    }
  }
  return result;
}

}  // namespace imageservice
