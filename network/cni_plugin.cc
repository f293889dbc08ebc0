#include "network/cni_plugin.h"

#include <poll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <utility>

#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/files.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "network/cni_config.h"

namespace network {
namespace {

constexpr char kDefaultPath[] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
constexpr size_t kMaxOutput = 1 << 20;
constexpr size_t kMaxQuoted = 2000;  // Bytes of foreign output in a message.
constexpr int kUnknownError = 999;   // What CNI's own library calls an error without a code.

// A binary that is being written cannot be started; package managers take a moment.
constexpr int kBusyRetries = 7;
constexpr absl::Duration kBusyFirstPause =
    absl::Milliseconds(40);  // Doubled each time: 5 s in all.

// `text` short enough for a message, on its own without white space at the ends.
std::string Quote(const std::string& text) {
  const absl::string_view stripped = absl::StripAsciiWhitespace(text);
  if (stripped.size() <= kMaxQuoted) {
    return std::string(stripped);
  }
  return base::StrCat("…", base::ToStd(stripped.substr(stripped.size() - kMaxQuoted)));
}

// Waits `pause` unless the context ends before.
absl::Status Pause(const base::Context& ctx, absl::Duration pause) {
  const base::Context until = ctx.WithTimeout(pause);
  pollfd cancel = {.fd = ctx.cancel_fd(), .events = POLLIN, .revents = 0};
  poll(&cancel, 1, until.PollTimeout());
  return ctx.Check();
}

// `text` as a file to read from: unlike a socket it may also be opened as /dev/stdin, which plugins
// that are shell scripts do.
absl::StatusOr<base::UniqueFd> InputFile(std::string_view text) {
  base::UniqueFd file(memfd_create("cni-input", MFD_CLOEXEC));
  if (!file.valid()) {
    return base::ErrnoStatus(errno, "make a file for the plugin's input");
  }
  RETURN_IF_ERROR(base::WriteAll(file.get(), text, "the plugin's input"));
  if (lseek(file.get(), 0, SEEK_SET) != 0) {
    return base::ErrnoStatus(errno, "rewind the plugin's input");
  }
  return file;
}

// Whether execve(2) of the plugin failed although it is there and executable: most likely it is
// just being replaced. The launcher then exits as env(1) does.
bool NeverRan(const absl::StatusOr<base::CommandResult>& result) {
  constexpr int kCannotExecute = 126;
  return result.ok() ? result->exit.code == kCannotExecute && result->out.empty()
                     : absl::IsUnknown(result.status());
}

// What a plugin that failed had to say: its error object, or whatever it printed instead.
CniError ErrorOf(const base::CommandResult& result) {
  absl::StatusOr<CniError> error = ParseCniError(result.out);
  if (error.ok()) {
    error->text = Quote(error->text);
    return *std::move(error);
  }
  std::string text = result.exit.signal != 0 ? base::StrCat("killed by signal ", result.exit.signal)
                                             : base::StrCat("exit code ", result.exit.code);
  for (const std::string& words : {Quote(result.out), Quote(result.err)}) {
    if (!words.empty()) {
      text += base::StrCat(": ", words);
    }
  }
  return {.code = kUnknownError, .text = std::move(text)};
}

}  // namespace

std::string_view CniCommandName(CniCommand command) {
  switch (command) {
    case CniCommand::kAdd:
      return "ADD";
    case CniCommand::kDel:
      return "DEL";
    case CniCommand::kStatus:
      return "STATUS";
    case CniCommand::kGc:
      return "GC";
  }
  return "";
}

absl::StatusOr<std::string> CniPlugins::Find(std::string_view type) const {
  RETURN_IF_ERROR(CheckPluginType(type));
  for (const std::string& directory : directories_) {
    std::string path = base::StrCat(directory, "/", type);
    struct stat facts = {};
    if (stat(path.c_str(), &facts) == 0 && S_ISREG(facts.st_mode) &&
        access(path.c_str(), X_OK) == 0) {
      return path;
    }
  }
  return absl::FailedPreconditionError(
      base::StrCat("no CNI plugin binary ", type, " in ", absl::StrJoin(directories_, ", ")));
}

absl::StatusOr<CniPlugins::Answer> CniPlugins::Run(const base::Context& ctx, CniCommand command,
                                                   std::string_view type,
                                                   const CniParameters& parameters,
                                                   const base::Json& input) const {
  ASSIGN_OR_RETURN(std::string path, Find(type));
  base::Command line = MakeCommand(command, std::move(path), parameters);
  const std::string text = base::DumpJson(input);
  const absl::Time start = absl::Now();
  absl::Duration pause = kBusyFirstPause;
  for (int retries = 0;; ++retries) {
    ASSIGN_OR_RETURN(const base::UniqueFd input_file, InputFile(text));
    line.stdin_fd = input_file.get();
    absl::StatusOr<base::CommandResult> result = base::RunCommand(ctx, line, "", kMaxOutput);
    if (!NeverRan(result) || retries == kBusyRetries) {
      RETURN_IF_ERROR(base::Annotate(
          result.status(),
          base::StrCat("no answer after ", absl::FormatDuration(absl::Trunc(
                                               absl::Now() - start, absl::Milliseconds(1))))));
      return result->exit.code == 0 ? Answer{.error = {}, .out = std::move(result->out)}
                                    : Answer{.error = ErrorOf(*result), .out = {}};
    }
    RETURN_IF_ERROR(Pause(ctx, pause));
    pause *= 2;
  }
}

base::Command CniPlugins::MakeCommand(CniCommand command, std::string path,
                                      const CniParameters& parameters) const {
  const char* const own_path = std::getenv("PATH");
  base::Command line;
  line.argv = {std::move(path)};
  line.env = {base::StrCat("CNI_COMMAND=", CniCommandName(command)),
              base::StrCat("CNI_PATH=", absl::StrJoin(directories_, ":")),
              base::StrCat("PATH=", own_path != nullptr ? own_path : kDefaultPath)};
  if (command == CniCommand::kAdd || command == CniCommand::kDel) {
    line.env.push_back(base::StrCat("CNI_CONTAINERID=", parameters.container_id));
    line.env.push_back(base::StrCat("CNI_NETNS=", parameters.netns));
    line.env.push_back(base::StrCat("CNI_IFNAME=", parameters.ifname));
    line.env.push_back(base::StrCat("CNI_ARGS=", parameters.args));
  }
  line.directory = "/";
  return launcher_.Wrap(std::move(line));
}

}  // namespace network
