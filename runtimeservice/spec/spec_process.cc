// The "process" part of config.json: what runs, as whom, with what.
#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "runtimeservice/spec/resources.h"
#include "runtimeservice/spec/spec_parts.h"

namespace runtimeservice {
namespace {

using base::OrderedJson;

constexpr char kDefaultPath[] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

bool HasNul(std::string_view text) { return text.find('\0') != std::string_view::npos; }

// Variables by name, in the order in which each name first came.
class Environment {
 public:
  void Set(std::string_view name, std::string_view value) {
    std::string entry = base::StrCat(name, "=", value);
    const auto found = Find(name);
    if (found != entries_.end()) {
      *found = std::move(entry);
    } else {
      entries_.push_back(std::move(entry));
    }
  }
  void SetDefault(std::string_view name, std::string_view value) {
    if (Find(name) == entries_.end()) {
      entries_.push_back(base::StrCat(name, "=", value));
    }
  }
  // "NAME=value"; anything else is no variable and is left out.
  void SetEntry(std::string_view entry) {
    const size_t equals = entry.find('=');
    if (equals != std::string_view::npos && equals > 0 && !HasNul(entry)) {
      Set(entry.substr(0, equals), entry.substr(equals + 1));
    }
  }
  const std::vector<std::string>& entries() const { return entries_; }

 private:
  std::vector<std::string>::iterator Find(std::string_view name) {
    return std::find_if(entries_.begin(), entries_.end(), [name](const std::string& entry) {
      return entry.size() > name.size() && entry[name.size()] == '=' &&
             entry.compare(0, name.size(), name) == 0;
    });
  }

  std::vector<std::string> entries_;
};

absl::StatusOr<std::vector<std::string>> ProcessEnvironment(const SpecInput& input) {
  Environment environment;
  for (const std::string& entry : input.defaults.env) {
    environment.SetEntry(entry);
  }
  for (const std::string& entry : input.image.env) {
    environment.SetEntry(entry);
  }
  for (int i = 0; i < input.container.envs_size(); ++i) {
    const cri::KeyValue& variable = input.container.envs(i);
    if (variable.key().empty() || variable.key().find('=') != std::string::npos ||
        HasNul(variable.key()) || HasNul(variable.value())) {
      return absl::InvalidArgumentError(
          base::StrCat("envs[", i, "]: no name, or a \"=\" in the name, or a NUL"));
    }
    environment.Set(variable.key(), variable.value());
  }
  environment.SetDefault("PATH", kDefaultPath);
  if (input.container.tty()) {
    environment.SetDefault("TERM", "xterm");
  }
  if (!input.hostname.empty()) {
    environment.SetDefault("HOSTNAME", input.hostname);
  }
  return environment.entries();
}

absl::StatusOr<std::string> WorkingDirectory(const SpecInput& input) {
  const std::string& wanted = !input.container.working_dir().empty() ? input.container.working_dir()
                                                                     : input.image.working_dir;
  if (HasNul(wanted)) {
    return absl::InvalidArgumentError("working_dir: it has a NUL");
  }
  if (wanted.empty()) {
    return "/";
  }
  return wanted.front() == '/' ? wanted : "/" + wanted;
}

absl::StatusOr<OrderedJson> CapabilitiesPart(const SpecInput& input) {
  ASSIGN_OR_RETURN(const Capabilities names,
                   ContainerCapabilities(Security(input), input.defaults.capabilities, input.host));
  OrderedJson part = OrderedJson::object();
  for (const char* set : {"bounding", "effective", "permitted"}) {
    part[set] = names;
  }
  // Filled with all, these would give a program with file capabilities more than its user is meant
  // to have (CVE-2022-24769). What is to be ambient must be inheritable as well: capabilities(7).
  ASSIGN_OR_RETURN(part["inheritable"], AmbientCapabilities(Security(input), names));
  part["ambient"] = part["inheritable"];
  return part;
}

OrderedJson RlimitsPart(const std::vector<Ulimit>& ulimits) {
  OrderedJson part = OrderedJson::array();
  for (const Ulimit& limit : ulimits) {
    part.push_back({{"type", limit.type}, {"hard", limit.hard}, {"soft", limit.soft}});
  }
  return part;
}

}  // namespace

absl::StatusOr<std::vector<std::string>> CommandLine(
    const cri::ContainerConfig& container, const imageservice::ImageProcessConfig& image) {
  std::vector<std::string> line(container.command().begin(), container.command().end());
  if (line.empty()) {
    line = image.entrypoint;
  }
  if (container.args_size() > 0) {
    line.insert(line.end(), container.args().begin(), container.args().end());
  } else if (container.command_size() == 0) {
    line.insert(line.end(), image.cmd.begin(), image.cmd.end());
  }
  if (line.empty() || line.front().empty()) {
    return absl::InvalidArgumentError("command: neither the request nor the image has one");
  }
  if (std::any_of(line.begin(), line.end(), HasNul)) {
    return absl::InvalidArgumentError("command: an argument has a NUL");
  }
  return line;
}

absl::StatusOr<OrderedJson> ProcessPart(const SpecInput& input) {
  OrderedJson process = OrderedJson::object();
  process["terminal"] = input.container.tty();
  process["user"] = {
      {"uid", input.user.uid}, {"gid", input.user.gid}, {"additionalGids", input.user.groups}};
  ASSIGN_OR_RETURN(process["args"], CommandLine(input.container, input.image));
  ASSIGN_OR_RETURN(process["env"], ProcessEnvironment(input));
  ASSIGN_OR_RETURN(process["cwd"], WorkingDirectory(input));
  ASSIGN_OR_RETURN(process["capabilities"], CapabilitiesPart(input));
  if (!input.defaults.ulimits.empty()) {
    process["rlimits"] = RlimitsPart(input.defaults.ulimits);
  }
  process["noNewPrivileges"] = Security(input).no_new_privs();
  if (!input.apparmor_profile.empty()) {
    process["apparmorProfile"] = input.apparmor_profile;
  }
  if (!input.selinux.process.empty()) {
    process["selinuxLabel"] = input.selinux.process;
  }
  ASSIGN_OR_RETURN(process["oomScoreAdj"],
                   OomScoreAdj(input.container.linux().resources(), input.host));
  return process;
}

}  // namespace runtimeservice
