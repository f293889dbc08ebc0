#include "runtimeservice/devices/oci_hooks.h"

#include <re2/re2.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/strings/ascii.h"
#include "base/files.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "base/strings.h"

namespace runtimeservice {
namespace {

constexpr size_t kMaxFileBytes = 256 << 10;
constexpr int64_t kMaxPatternBytes = 1 << 20;
constexpr size_t kMaxPatterns = 256;

// Compiled anew for each container: nothing is kept for nodes whose hooks seldom match.
RE2 Compile(const std::string& pattern) {
  RE2::Options options(RE2::Quiet);
  options.set_max_mem(kMaxPatternBytes);
  return RE2(pattern, options);
}

bool Matches(const std::string& pattern, const std::string& text) {
  return RE2::PartialMatch(text, Compile(pattern));
}

absl::Status CheckPattern(const std::string& pattern) {
  const RE2 compiled = Compile(pattern);
  return compiled.ok() ? absl::OkStatus()
                       : absl::InvalidArgumentError(base::StrCat(
                             "\"", pattern, "\" is no regular expression: ", compiled.error()));
}

// The member `key`, absent when it is not there.
absl::StatusOr<std::optional<bool>> Choice(const base::Json& object, std::string_view key) {
  if (base::JsonMember(object, key).is_null()) {
    return std::nullopt;
  }
  ASSIGN_OR_RETURN(const bool value, base::JsonBool(object, key));
  return value;
}

absl::Status ReadWhen(const base::Json& when, OciHookFile* file) {
  ASSIGN_OR_RETURN(file->always, Choice(when, "always"));
  ASSIGN_OR_RETURN(file->has_bind_mounts, Choice(when, "hasBindMounts"));
  ASSIGN_OR_RETURN(file->annotations, base::JsonStringMap(when, "annotations"));
  ASSIGN_OR_RETURN(file->commands, base::JsonStrings(when, "commands"));
  if (file->annotations.size() + file->commands.size() > kMaxPatterns) {
    return absl::InvalidArgumentError(base::StrCat("more than ", kMaxPatterns, " patterns"));
  }
  for (const auto& [name, value] : file->annotations) {
    RETURN_IF_ERROR(base::Annotate(CheckPattern(name), "annotations"));
    RETURN_IF_ERROR(base::Annotate(CheckPattern(value), "annotations"));
  }
  for (const std::string& command : file->commands) {
    RETURN_IF_ERROR(base::Annotate(CheckPattern(command), "commands"));
  }
  return absl::OkStatus();
}

absl::StatusOr<OciHookFile> ReadHookFile(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string text, base::ReadFile(path, kMaxFileBytes));
  return ParseOciHookFile(text);
}

bool AnyMatches(const std::map<std::string, std::string>& annotations, const std::string& name,
                const std::string& value) {
  return std::any_of(annotations.begin(), annotations.end(), [&](const auto& annotation) {
    return Matches(name, annotation.first) && Matches(value, annotation.second);
  });
}

}  // namespace

absl::StatusOr<OciHookFile> ParseOciHookFile(std::string_view text) {
  ASSIGN_OR_RETURN(const base::Json object, base::ParseJson(text));
  ASSIGN_OR_RETURN(const std::string version, base::JsonString(object, "version"));
  if (version != "1.0.0") {
    return absl::InvalidArgumentError(base::StrCat("\"version\": \"", version, "\" is not 1.0.0"));
  }
  for (const char* key : {"hook", "when"}) {
    if (!base::JsonMember(object, key).is_object()) {
      return absl::InvalidArgumentError(base::StrCat("\"", key, "\" is missing or not an object"));
    }
  }
  OciHookFile file;
  absl::StatusOr<OciHook> hook = ReadOciHook(base::JsonMember(object, "hook"));
  RETURN_IF_ERROR(base::Annotate(hook.status(), "hook"));
  file.hook = *std::move(hook);
  RETURN_IF_ERROR(base::Annotate(ReadWhen(base::JsonMember(object, "when"), &file), "when"));
  ASSIGN_OR_RETURN(file.stages, base::JsonStrings(object, "stages"));
  if (file.stages.empty()) {
    return absl::InvalidArgumentError("\"stages\": there is none");
  }
  for (std::string& stage : file.stages) {
    if (!IsHookStage(stage)) {
      return absl::InvalidArgumentError(
          base::StrCat("\"stages\": \"", stage, "\" is not a stage of hooks"));
    }
    if (stage == "prestart") {
      stage = "createRuntime";  // What took its place in runtime-spec 1.0.2, at the same moment.
    }
  }
  std::sort(file.stages.begin(), file.stages.end());
  file.stages.erase(std::unique(file.stages.begin(), file.stages.end()), file.stages.end());
  return file;
}

bool HookMatches(const OciHookFile& file, const HookSubject& subject) {
  if (file.always == false ||
      (file.has_bind_mounts.has_value() && !(*file.has_bind_mounts && subject.has_bind_mounts))) {
    return false;
  }
  for (const auto& [name, value] : file.annotations) {
    if (!AnyMatches(subject.annotations, name, value)) {
      return false;
    }
  }
  if (!file.commands.empty()) {
    return std::any_of(file.commands.begin(), file.commands.end(), [&](const std::string& pattern) {
      return Matches(pattern, subject.command);
    });
  }
  return file.always.has_value() || file.has_bind_mounts.has_value() || !file.annotations.empty();
}

OciHooks::OciHooks(std::vector<std::string> folders)
    : files_(std::move(folders), {".json"}, &OciHooks::Load) {}

OciHooks::Files OciHooks::Load(const base::FolderFiles& folder, base::FolderProblems* problems) {
  Files files;
  for (const base::FolderFile& file : folder.files) {
    absl::StatusOr<OciHookFile> read = ReadHookFile(file.path);
    if (read.ok()) {
      const std::string key =
          base::StrCat(absl::AsciiStrToLower(file.name), std::string(1, '\0'), file.name);
      files.insert_or_assign(key, *std::move(read));
    } else {
      (*problems)[file.path] = std::string(read.status().message());
    }
  }
  return files;
}

void OciHooks::Apply(const cri::PodSandboxConfig& pod, const cri::ContainerConfig& container,
                     base::OrderedJson* spec) {
  const std::shared_ptr<const Files> files = files_.Get();
  if (files->empty()) {
    return;
  }
  std::map<std::string, std::string> annotations(pod.annotations().begin(),
                                                 pod.annotations().end());
  annotations.insert(container.annotations().begin(), container.annotations().end());
  const HookSubject subject = {.annotations = annotations,
                               .command = spec->at("process").at("args").at(0),
                               .has_bind_mounts = container.mounts_size() > 0};
  for (const auto& [name, file] : *files) {
    if (!HookMatches(file, subject)) {
      continue;
    }
    if (access(file.hook.path.c_str(), X_OK) != 0) {
      base::LogWarning("hook ", file.hook.path, " is left out: it is no program");
      continue;
    }
    for (const std::string& stage : file.stages) {
      AddOciHook(file.hook, stage, spec);
    }
  }
}

}  // namespace runtimeservice
