// crisp: the daemon and its subcommands.
#include <malloc.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "CLI/CLI.hpp"
#include "base/files.h"
#include "base/log.h"
#include "base/strings.h"
#include "daemon/config.h"
#include "daemon/config_keys.h"
#include "daemon/image_options.h"
#include "daemon/serve.h"
#include "daemon/status_command.h"

namespace crispd {
namespace {

// A command line or configuration that can never work, a failure, a daemon that is not ready.
constexpr int kFailed = 1;
constexpr int kUsage = 2;
constexpr int kNotReady = 3;

constexpr char kVersion[] = "crisp " CRISP_VERSION "\nCRI runtime.v1";

// What was typed.
struct CommandLine {
  ConfigSources sources;
  std::vector<ConfigFlag> flags = ConfigFlags();
  std::vector<std::vector<std::string>> values =
      std::vector<std::vector<std::string>>(flags.size());
  bool config_default = false;
  bool status_records = false;
  ImageCommand image;
};

// Subcommands before the many flags, a value as "VALUE".
class HelpFormatter final : public CLI::Formatter {
 public:
  std::string make_help(const CLI::App* app, std::string name,
                        CLI::AppFormatMode mode) const override {
    if (mode == CLI::AppFormatMode::Sub) return CLI::Formatter::make_help(app, name, mode);
    return base::StrCat(make_description(app), make_usage(app, name), make_positionals(app),
                        make_subcommands(app, mode), make_groups(app, mode), "\n",
                        make_footer(app));
  }

  std::string make_option_opts(const CLI::Option* option) const override {
    if (option->get_type_size() == 0) return "";
    const std::string value = option->get_type_name();
    const std::string preset = option->get_default_str();
    return base::StrCat(value.empty() ? "" : " ", value, preset.empty() ? "" : " [", preset,
                        preset.empty() ? "" : "]");
  }
};

void AddFlagNames(const CLI::App& app, std::vector<std::string>* names) {
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) {
      names->push_back(base::StrCat("--", name));
    }
  }
}

// For the arguments left over after parsing: the first one and the nearest known flag or
// subcommand. Empty without leftovers.
std::string UnknownArgument(const CLI::App& app) {
  const std::vector<std::string> left = app.remaining(true);
  if (left.empty()) return "";
  const std::string word = left[0].substr(0, left[0].find('='));
  const bool flag = word.starts_with('-');
  // The last subcommand that was understood.
  const CLI::App* last = &app;
  std::vector<std::string> known;
  if (flag) AddFlagNames(*last, &known);
  while (!last->get_subcommands().empty()) {
    last = last->get_subcommands().front();
    if (flag) AddFlagNames(*last, &known);
  }
  const std::vector<const CLI::App*> next =
      last->get_subcommands([](const CLI::App*) { return true; });
  if (!flag) {
    for (const CLI::App* subcommand : next) known.push_back(subcommand->get_name());
  }
  const std::string nearest = NearestWord(word, known);
  return base::StrCat(flag           ? "unknown flag \""
                      : next.empty() ? "unexpected argument \""
                                     : "unknown subcommand \"",
                      word, "\"", nearest.empty() ? "" : ": did you mean \"", nearest,
                      nearest.empty() ? " (crisp --help lists all)" : "\"?");
}

void AddFlags(CLI::App* app, CommandLine* line) {
  app->add_option("--config", line->sources.file, "The configuration file")->capture_default_str();
  app->add_option("--config-dir", line->sources.directory, "Its drop-ins; \"\": none")
      ->capture_default_str();
  for (size_t i = 0; i < line->flags.size(); ++i) {
    const ConfigFlag& flag = line->flags[i];
    CLI::Option* option = app->add_option(flag.flag, line->values[i], flag.help);
    option->allow_extra_args(false);
    option->multi_option_policy(flag.repeatable ? CLI::MultiOptionPolicy::TakeAll
                                                : CLI::MultiOptionPolicy::TakeLast);
    option->group(base::StrCat("Configuration, ", flag.key.substr(0, flag.key.rfind('.'))));
    option->type_name(flag.repeatable ? "VALUE (may be repeated)" : "VALUE");
  }
}

int Fail(const absl::Status& status, int code) {
  fprintf(stderr, "crisp: %s\n", std::string(status.message()).c_str());
  return code;
}

int Print(const std::string& text) {
  fputs(text.c_str(), stdout);
  return fflush(stdout) == 0 ? 0 : kFailed;
}

int RunStatus(const Config& config, bool records) {
  if (records) {
    const absl::StatusOr<std::string> text = RecordsAsText(config.root);
    return text.ok() ? Print(*text) : Fail(text.status(), kFailed);
  }
  const absl::StatusOr<DaemonStatus> status = AskStatus(config.listen);
  if (!status.ok()) return Fail(status.status(), kFailed);
  const int printed = Print(status->text);
  return printed != 0 || status->ready ? printed : kNotReady;
}

int RunServe(const Config& config) {
  absl::Status served = Serve(config);
  if (!served.ok()) {
    base::LogError("crisp cannot serve: ", base::ToStd(served.message()));
    return kFailed;
  }
  return 0;
}

int Run(const CLI::App& app, CommandLine* line, std::string_view program) {
  if (app.got_subcommand("version")) {
    return Print(base::StrCat(kVersion, "\n"));
  }
  if (line->config_default) return Print(ConfigTemplate());
  line->sources.file_required = app.count("--config") > 0;
  for (size_t i = 0; i < line->flags.size(); ++i) {
    if (line->values[i].empty()) continue;
    absl::StatusOr<FlagSetting> setting = ParseConfigFlag(line->flags[i], line->values[i]);
    if (!setting.ok()) return Fail(setting.status(), kUsage);
    line->sources.flags.push_back(*std::move(setting));
  }
  absl::StatusOr<Config> config = LoadConfig(line->sources);
  if (!config.ok()) return Fail(config.status(), kUsage);
  if (const auto level = base::ParseLogLevel(config->log_level); level.ok()) {
    base::SetLogLevel(*level);
  }
  if (app.got_subcommand("image")) {
    if (line->image.socket.empty()) line->image.socket = config->listen;
    return RunImageCommand(line->image);
  }
  if (app.got_subcommand("status")) return RunStatus(*config, line->status_records);
  ResolveHost(program, &*config);
  if (app.got_subcommand("config")) return Print(FormatConfig(*config));
  return RunServe(*config);
}

int Main(int argc, char** argv) {
  CommandLine line;
  CLI::App app(
      "crisp runs pods and containers for the kubelet (CRI runtime.v1).\n"
      "Without a subcommand it serves. Everything has a default: no file is needed.");
  app.name("crisp");
  app.formatter(std::make_shared<HelpFormatter>());
  app.set_version_flag("--version", kVersion, "Print the version");
  app.require_subcommand(0, 1);
  app.add_subcommand("serve", "Serve the CRI until SIGTERM (what `crisp` alone does)");
  app.add_subcommand("version", "Print the version");
  CLI::App* config =
      app.add_subcommand("config", "Print the configuration in force and each origin");
  config->add_flag("--default", line.config_default, "Print a commented file with all defaults");
  CLI::App* status = app.add_subcommand(
      "status", "Ask the running daemon: conditions, operations, network, pulls; 3: not ready");
  status->add_flag("--records", line.status_records,
                   "Print the records on disk instead; needs no daemon");
  CLI::App* image =
      app.add_subcommand("image", "List, pull, remove, load and save images (image --help)");
  if (std::find(argv, argv + argc, std::string_view("image")) != argv + argc) {
    AddImageOptions(image, &line.image);
  }
  AddFlags(&app, &line);
  app.footer(
      "Exit status: 0 well, 1 failed, 2 wrong command line or configuration, 3 not ready.\n"
      "SIGUSR1 makes a serving crisp log its operations in flight.");
  for (CLI::App* subcommand : app.get_subcommands({})) {
    subcommand->fallthrough();
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (const std::string unknown = UnknownArgument(app); !unknown.empty()) {
      return Fail(absl::InvalidArgumentError(unknown), kUsage);
    }
    return app.exit(error) == 0 ? 0 : kUsage;
  }
  char program[4096];
  const ssize_t length = readlink("/proc/self/exe", program, sizeof(program));
  return Run(app, &line, std::string_view(program, length > 0 ? static_cast<size_t>(length) : 0));
}

}  // namespace
}  // namespace crispd

int main(int argc, char** argv) {
  // One arena: memory must not grow with the number of cores.
  mallopt(M_ARENA_MAX, 1);
  // Files we make are never writable by others, whatever started us.
  umask(022);
  return crispd::Main(argc, argv);
}
