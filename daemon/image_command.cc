#include "daemon/image_command.h"

#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>

#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "base/files.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "daemon/archive_paths.h"
#include "daemon/crisp_client.h"
#include "daemon/image_table.h"
#include "daemon/progress_bar.h"
#include "imageservice/auth_file.h"
#include "imageservice/reference.h"
#include "proto/api.grpc.pb.h"
#include "proto/cri.h"
#include "proto/crisp.grpc.pb.h"

namespace crispd {
namespace {

using crisp::v1::Event;
using crisp::v1::Images;

constexpr int kFailed = 1;
constexpr int kUsage = 2;
constexpr int kInterrupted = 130;  // As a shell says of SIGINT.

// Characters in a line of the terminal; 0: standard error is none.
int TerminalWidth() {
  winsize size = {};
  if (isatty(STDERR_FILENO) == 0) return 0;
  return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 20 ? size.ws_col : 80;
}

TransferState StateOf(const crisp::v1::Progress& progress) {
  return {.bytes_done = progress.bytes_done(),
          .bytes_total = progress.bytes_total(),
          .layers_done = progress.layers_done(),
          .layers_total = progress.layers_total(),
          .stalled = progress.stalled()};
}

// "user:password" as typed, or the line that standard input has.
absl::StatusOr<cri::AuthConfig> ParseCredentials(const std::string& text) {
  const size_t colon = text.find(':');
  if (colon == std::string::npos || colon == 0) {
    return absl::InvalidArgumentError("credentials are written as USER:PASSWORD");
  }
  cri::AuthConfig auth;
  auth.set_username(text.substr(0, colon));
  auth.set_password(text.substr(colon + 1));
  return auth;
}

// What the file itself has for the image; the node's own lookup, with its helpers, is the daemon's.
absl::StatusOr<cri::AuthConfig> FromAuthFile(const std::string& path, const std::string& image) {
  using imageservice::AuthFile;
  ASSIGN_OR_RETURN(const std::optional<AuthFile> file,
                   AuthFile::Load(path, AuthFile::Format::kAuthJson));
  if (!file.has_value()) return absl::NotFoundError(base::StrCat(path, " does not exist"));
  ASSIGN_OR_RETURN(const imageservice::Reference reference, imageservice::Reference::Parse(image));
  ASSIGN_OR_RETURN(const std::optional<imageservice::worker::Credentials> found,
                   file->Find(reference.domain(), reference.path()));
  if (!found.has_value()) {
    return absl::NotFoundError(
        base::StrCat(path, " has no credentials for ", reference.repository()));
  }
  cri::AuthConfig auth;
  auth.set_username(found->username);
  auth.set_password(found->password);
  auth.set_identity_token(found->identity_token);
  auth.set_registry_token(found->registry_token);
  return auth;
}

// One command against one daemon.
class ImageClient {
 public:
  ImageClient(const ImageCommand& command, std::shared_ptr<grpc::Channel> channel,
              Interrupts* interrupts)
      : command_(command),
        interrupts_(*interrupts),
        deadline_(command.timeout_seconds > 0 ? absl::Now() + absl::Seconds(command.timeout_seconds)
                                              : absl::InfiniteFuture()),
        cri_(cri::ImageService::NewStub(channel)),
        images_(Images::NewStub(channel)) {}

  int Run() {
    switch (command_.verb) {
      case ImageCommand::Verb::kList:
        return ForAll([this](const std::string&) { return List(); }, {"list"});
      case ImageCommand::Verb::kPull:
        return Pull();
      case ImageCommand::Verb::kRemove:
        return ForAll([this](const std::string& name) { return Remove(name); }, command_.names);
      case ImageCommand::Verb::kLoad:
        return ForAll([this](const std::string& file) { return Load(file); }, {command_.file});
      case ImageCommand::Verb::kSave:
        return ForAll([this](const std::string& file) { return Save(file); }, {command_.output});
    }
    return kFailed;
  }

 private:
  // Does `one` for each; what fails is told and does not keep the next from being done.
  template <typename One>
  int ForAll(const One& one, const std::vector<std::string>& names) {
    int result = 0;
    for (const std::string& name : names) {
      const absl::Status status = one(name);
      if (interrupts_.interrupted()) {
        fprintf(stderr, "crisp: interrupted\n");
        return kInterrupted;
      }
      if (!status.ok()) {
        Tell(name, status);
        result = kFailed;
      }
    }
    return fflush(stdout) == 0 ? std::max(result, result_) : kFailed;
  }

  // An error, with the name unless it is in it.
  void Tell(const std::string& name, const absl::Status& status) const {
    std::string message(status.message());
    if (absl::IsUnimplemented(status)) {
      message = "what serves on " + command_.socket + " is not a crisp of this version: " + message;
    } else if (absl::IsDeadlineExceeded(status)) {
      message = "the time given by --timeout is over: " + message;
    }
    const bool is_named = message.find(name) != std::string::npos;
    fprintf(stderr, "crisp: %s%s%s\n", is_named ? "" : name.c_str(), is_named ? "" : ": ",
            message.c_str());
  }

  // A call without a stream.
  template <typename Stub, typename Request, typename Response>
  absl::Status Ask(Stub* stub,
                   grpc::Status (Stub::*verb)(grpc::ClientContext*, const Request&, Response*),
                   const Request& request, Response* response) {
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(deadline_));
    const Interrupts::Scope scope(&interrupts_, &context);
    return FromGrpc((stub->*verb)(&context, request, response));
  }

  // A call with progress; `take` gets each image.
  template <typename Request, typename Take>
  absl::Status Follow(std::unique_ptr<grpc::ClientReader<Event>> (Images::Stub::*verb)(
                          grpc::ClientContext*, const Request&),
                      const Request& request, const std::string& label, const Take& take) {
    grpc::ClientContext context;
    if (deadline_ != absl::InfiniteFuture()) {
      context.set_deadline(absl::ToChronoTime(deadline_));
    }
    const Interrupts::Scope scope(&interrupts_, &context);
    const auto reader = (images_.get()->*verb)(&context, request);
    ProgressBar bar(label, TerminalWidth(), absl::Now());
    Event event;
    while (reader->Read(&event)) {
      if (event.has_progress() && !command_.quiet) {
        fputs(bar.Update(StateOf(event.progress()), absl::Now()).c_str(), stderr);
      }
      if (event.has_image()) {
        fputs(bar.Clear().c_str(), stderr);
        take(event.image());
      }
    }
    const absl::Status status = FromGrpc(reader->Finish());
    fputs(bar.Clear().c_str(), stderr);
    return status;
  }

  absl::Status List() {
    cri::ListImagesResponse images;
    RETURN_IF_ERROR(
        Ask(cri_.get(), &cri::ImageService::Stub::ListImages, cri::ListImagesRequest(), &images));
    const std::string text =
        command_.json    ? ImagesJson(images)
        : command_.quiet ? ImageIds(images)
                         : ImageTable(images, command_.digests ? Digests::kShow : Digests::kHide);
    fputs(text.c_str(), stdout);
    return absl::OkStatus();
  }

  int Pull() {
    cri::AuthConfig given;
    if (!command_.creds.empty() || command_.creds_stdin) {
      std::string text = command_.creds;
      if (command_.creds_stdin) {
        const absl::StatusOr<std::string> line =
            base::ReadFd(STDIN_FILENO, "standard input", 65536);
        text = line.ok() ? line->substr(0, line->find_first_of("\r\n")) : "";
      }
      absl::StatusOr<cri::AuthConfig> auth = ParseCredentials(text);
      if (!auth.ok()) {
        fprintf(stderr, "crisp: %s\n", std::string(auth.status().message()).c_str());
        return kUsage;
      }
      given = *std::move(auth);
    }
    return ForAll([&](const std::string& name) { return PullOne(name, given); }, command_.names);
  }

  absl::Status PullOne(const std::string& name, const cri::AuthConfig& given) {
    crisp::v1::PullRequest request;
    request.mutable_image()->set_image(name);
    *request.mutable_auth() = given;
    if (!command_.authfile.empty()) {
      ASSIGN_OR_RETURN(*request.mutable_auth(), FromAuthFile(command_.authfile, name));
    }
    return Follow(&Images::Stub::Pull, request, name, [&](const crisp::v1::Image& image) {
      Print("pulled", image.names().empty() ? name : image.names(0), image.id());
    });
  }

  absl::Status Remove(const std::string& name) {
    cri::ImageStatusRequest question;
    question.mutable_image()->set_image(name);
    cri::ImageStatusResponse answer;
    RETURN_IF_ERROR(Ask(cri_.get(), &cri::ImageService::Stub::ImageStatus, question, &answer));
    if (!answer.has_image()) {
      return absl::NotFoundError(base::StrCat("image ", name, " is not here"));
    }
    // By its id: should the name move meanwhile, the image that was meant goes.
    cri::RemoveImageRequest request;
    request.mutable_image()->set_image(answer.image().id());
    cri::RemoveImageResponse response;
    RETURN_IF_ERROR(Ask(cri_.get(), &cri::ImageService::Stub::RemoveImage, request, &response));
    for (const std::string& tag : answer.image().repo_tags()) Print("removed", tag, "");
    Print("removed", "", answer.image().id());
    return absl::OkStatus();
  }

  absl::Status Load(const std::string& file) {
    ASSIGN_OR_RETURN(const ArchiveInput input, ArchiveInput::Open(file));
    crisp::v1::LoadRequest request;
    request.set_path(input.path());
    request.set_name(command_.name);
    const auto readable = [&](std::string text) {  // Not the name that the daemon was given.
      for (size_t at = 0; (at = text.find(input.path(), at)) != std::string::npos;) {
        text.replace(at, input.path().size(), input.name());
        at += input.name().size();
      }
      return text;
    };
    const absl::Status status =
        Follow(&Images::Stub::Load, request, input.name(), [&](const crisp::v1::Image& image) {
          if (image.error_code() != 0) {
            Tell(image.names().empty() ? "an image" : image.names(0),
                 absl::Status(static_cast<absl::StatusCode>(image.error_code()),
                              readable(image.error())));
            result_ = kFailed;
            return;
          }
          if (command_.quiet || image.names().empty()) Print("loaded", "", image.id());
          for (const std::string& name : image.names()) {
            if (!command_.quiet) Print("loaded", name, image.id());
          }
          if (!image.note().empty()) fprintf(stderr, "crisp: note: %s\n", image.note().c_str());
        });
    return absl::Status(status.code(), readable(std::string(status.message())));
  }

  absl::Status Save(const std::string& file) {
    const bool is_layout = command_.format == "oci-layout";
    ASSIGN_OR_RETURN(
        const std::unique_ptr<ArchiveOutputPath> output,
        ArchiveOutputPath::Create(
            file, is_layout ? ArchiveOutputPath::Kind::kDirectory : ArchiveOutputPath::Kind::kFile,
            command_.force ? ArchiveOutputPath::Existing::kReplace
                           : ArchiveOutputPath::Existing::kRefuse));
    crisp::v1::SaveRequest request;
    *request.mutable_images() = {command_.names.begin(), command_.names.end()};
    request.set_path(output->path());
    request.set_format(is_layout ? crisp::v1::SaveRequest::OCI_LAYOUT
                       : command_.format == "docker-archive"
                           ? crisp::v1::SaveRequest::DOCKER_ARCHIVE
                           : crisp::v1::SaveRequest::OCI_ARCHIVE);
    request.set_compression(command_.compression == "gzip"   ? crisp::v1::SaveRequest::GZIP
                            : command_.compression == "zstd" ? crisp::v1::SaveRequest::ZSTD
                                                             : crisp::v1::SaveRequest::NONE);
    std::vector<crisp::v1::Image> saved;
    RETURN_IF_ERROR(Follow(&Images::Stub::Save, request, file,
                           [&](const crisp::v1::Image& image) { saved.push_back(image); }));
    if (interrupts_.interrupted()) return absl::CancelledError("interrupted");
    RETURN_IF_ERROR(output->Publish());
    if (file == "-") return absl::OkStatus();  // That is where the archive goes.
    for (const crisp::v1::Image& image : saved) {
      Print("saved", image.names().empty() ? image.id() : image.names(0), image.archived_id());
      if (image.archived_id() != image.id() && !command_.quiet) {
        fprintf(stderr, "crisp: note: its id in the archive is %s, here it is %s\n",
                ShortId(image.archived_id()).c_str(), ShortId(image.id()).c_str());
      }
    }
    return absl::OkStatus();
  }

  // A line of the result; with --quiet the id alone.
  void Print(const char* verb, const std::string& name, const std::string& id) const {
    if (command_.quiet) {
      if (!id.empty()) printf("%s\n", id.c_str());
    } else {
      printf("%s%s%s%s%s\n", verb, name.empty() ? "" : " ", name.c_str(), id.empty() ? "" : " ",
             id.empty() ? "" : ShortId(id).c_str());
    }
    fflush(stdout);
  }

  const ImageCommand& command_;
  Interrupts& interrupts_;
  const absl::Time deadline_;
  const std::unique_ptr<cri::ImageService::Stub> cri_;
  const std::unique_ptr<Images::Stub> images_;
  int result_ = 0;  // Of what is told along the way.
};

}  // namespace

int RunImageCommand(const ImageCommand& command) {
  signal(SIGPIPE, SIG_IGN);
  Interrupts interrupts;
  const absl::StatusOr<std::shared_ptr<grpc::Channel>> channel = ConnectToDaemon(command.socket);
  if (!channel.ok()) {
    fprintf(stderr, "crisp: %s%s\n", std::string(channel.status().message()).c_str(),
            absl::IsUnavailable(channel.status())
                ? "; start it (systemctl start crisp), or name its socket with --socket"
                : "");
    return kFailed;
  }
  return ImageClient(command, *channel, &interrupts).Run();
}

}  // namespace crispd
