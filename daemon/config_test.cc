#include "daemon/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <set>

#include "base/files.h"
#include "base/strings.h"
#include "base/systemd.h"
#include "daemon/config_keys.h"

namespace crispd {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

class ConfigTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char path[] = "/tmp/crisp-config-XXXXXX";
    directory_ = mkdtemp(path);
    sources_.file = directory_ + "/crisp.conf";
    sources_.directory = directory_ + "/crisp.conf.d";
    ASSERT_TRUE(base::MakeDirectories(sources_.directory).ok());
  }
  void TearDown() override { ASSERT_TRUE(base::RemoveTree(directory_).ok()); }

  void WriteFile(const std::string& text) { Write(sources_.file, text); }
  void WriteDropIn(const std::string& name, const std::string& text) {
    Write(base::StrCat(sources_.directory, "/", name), text);
  }
  void AddFlag(const std::string& flag, const std::vector<std::string>& arguments) {
    for (const ConfigFlag& known : ConfigFlags()) {
      if (known.flag == flag) {
        absl::StatusOr<FlagSetting> setting = ParseConfigFlag(known, arguments);
        ASSERT_TRUE(setting.ok()) << setting.status();
        sources_.flags.push_back(*setting);
        return;
      }
    }
    FAIL() << "no flag " << flag;
  }

  Config Load() {
    absl::StatusOr<Config> config = LoadConfig(sources_);
    EXPECT_TRUE(config.ok()) << config.status();
    return config.ok() ? *config : Config();
  }
  // The message of the error that the file `text` leads to.
  std::string ErrorOf(const std::string& text) {
    WriteFile(text);
    const absl::Status status = LoadConfig(sources_).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return std::string(status.message());
  }
  std::string At(int line) const { return base::StrCat(sources_.file, ":", line, ": "); }

  std::string directory_;
  ConfigSources sources_;

 private:
  static void Write(const std::string& path, const std::string& text) {
    ASSERT_TRUE(base::ReplaceFile(path, text, 0600, base::Durability::kVolatile).ok());
  }
};

TEST_F(ConfigTest, NoFileAtAllGivesTheDefaults) {
  sources_.directory += "/missing";
  const Config config = Load();
  EXPECT_EQ(config.root, "/var/lib/crisp");
  EXPECT_EQ(config.listen, "/run/crisp/crisp.sock");
  EXPECT_EQ(config.grpc_max_recv_msg_size, 80 * 1024 * 1024);
  EXPECT_EQ(config.runtimes.at("crun").runtime_root, "/run/crisp/runtime/crun");
  EXPECT_EQ(config.Origin("crisp.root"), "default");
}

TEST_F(ConfigTest, AFileNamedByTheUserMustExist) {
  sources_.file_required = true;
  EXPECT_EQ(LoadConfig(sources_).status().code(), absl::StatusCode::kNotFound);
}

TEST_F(ConfigTest, EachValueKnowsItsFileAndLine) {
  WriteFile(
      "[crisp]\nroot = \"/srv/crisp\"\n\n[crisp.image]\ninsecure_registries = [\"a:5000\"]\n");
  const Config config = Load();
  EXPECT_EQ(config.root, "/srv/crisp");
  EXPECT_EQ(config.Origin("crisp.root"), sources_.file + ":2");
  EXPECT_THAT(config.insecure_registries, ElementsAre("a:5000"));
  EXPECT_EQ(config.Origin("crisp.image.insecure_registries"), sources_.file + ":5");
  EXPECT_EQ(config.Origin("crisp.runroot"), "default");
}

TEST_F(ConfigTest, KeysAboutRegistriesAreChecked) {
  WriteFile(
      "[crisp.image]\nshort_name_mode = \"enforcing\"\nregistry_hosts_dirs = [\"/srv/h\"]\n"
      "signature_policy = \"\"\n");
  EXPECT_EQ(Load().short_name_mode, "enforcing");
  EXPECT_THAT(Load().registry_hosts_dirs, ElementsAre("/srv/h"));
  for (const std::string bad :
       {"short_name_mode = \"ask\"", "registry_hosts_dirs = [\"h\"]", "signature_policy = \"p\"",
        "credential_helper_dirs = [\"bin\"]", "namespaced_auth_dir = \"auth\""}) {
    WriteFile("[crisp.image]\n" + bad + "\n");
    EXPECT_THAT(std::string(LoadConfig(sources_).status().message()), HasSubstr(":2: ")) << bad;
  }
}

TEST_F(ConfigTest, LettersOutsideAsciiStayWhatTheyAre) {
  WriteFile("# \xc3\xbc\n[crisp]\nroot = \"/srv/\xc3\xbc\"\n");
  EXPECT_EQ(Load().root, "/srv/\xc3\xbc");
}

TEST_F(ConfigTest, DropInsWinOverTheFileInLexicalOrder) {
  WriteFile("[crisp.runtime]\npids_limit = 1\ndefault_runtime = \"runc\"\n");
  WriteDropIn("20-b.conf", "[crisp.runtime]\npids_limit = 20\n");
  WriteDropIn("10-a.conf", "[crisp.runtime]\npids_limit = 10\nlog_level = \"debug\"\n");
  WriteDropIn("30-c.conf.bak", "this is no TOML");
  const Config config = Load();
  EXPECT_EQ(config.pids_limit, 20);
  EXPECT_EQ(config.Origin("crisp.runtime.pids_limit"), sources_.directory + "/20-b.conf:2");
  EXPECT_EQ(config.log_level, "debug");
  EXPECT_EQ(config.default_runtime, "runc");
}

TEST_F(ConfigTest, FlagsWinOverFiles) {
  WriteFile("[crisp.api]\nlisten = \"/a.sock\"\n[crisp.image]\ninsecure_registries = [\"a\"]\n");
  AddFlag("--listen", {"/b.sock"});
  AddFlag("--insecure-registry", {"b:1", "c:2"});
  const Config config = Load();
  EXPECT_EQ(config.listen, "/b.sock");
  EXPECT_EQ(config.Origin("crisp.api.listen"), "--listen");
  EXPECT_THAT(config.insecure_registries, ElementsAre("b:1", "c:2"));
}

TEST_F(ConfigTest, SocketAndRuntimeStateFollowTheRunRoot) {
  AddFlag("--runroot", {"/tmp/r"});
  const Config config = Load();
  EXPECT_EQ(config.listen, "/tmp/r/crisp.sock");
  EXPECT_EQ(config.runtimes.at("runc").runtime_root, "/tmp/r/runtime/runc");
}

TEST_F(ConfigTest, MisspeltKeyStopsWithLineAndTheNearestKey) {
  EXPECT_EQ(ErrorOf("[crisp.runtime]\n\nconmom = \"/x\"\n"),
            At(3) + "unknown key \"crisp.runtime.conmom\": did you mean \"crisp.runtime.conmon\"?");
}

TEST_F(ConfigTest, KeyInTheWrongTableNamesTheRightOne) {
  EXPECT_EQ(ErrorOf("[crisp]\nlog_level = \"debug\"\n"),
            At(2) + "unknown key \"crisp.log_level\": did you mean \"crisp.runtime.log_level\"?");
}

TEST_F(ConfigTest, UnknownTableNamesTheNearestOne) {
  EXPECT_EQ(ErrorOf("[crisp.netwrk]\n"),
            At(1) + "unknown table \"crisp.netwrk\": did you mean \"crisp.network\"?");
  EXPECT_EQ(ErrorOf("[crio.runtime]\nlog_level = \"info\"\n"),
            At(1) + "unknown table \"crio\": did you mean \"crisp\"?");
}

TEST_F(ConfigTest, UnknownKeyWithoutANearOneGetsNoAdvice) {
  EXPECT_EQ(ErrorOf("[crisp]\nwholly_unrelated_word = 1\n"),
            At(2) + "unknown key \"crisp.wholly_unrelated_word\"");
}

TEST_F(ConfigTest, UnknownHandlerKeyNamesTheNearestOne) {
  EXPECT_EQ(ErrorOf("[crisp.runtime.runtimes.kata]\nruntime_pth = \"/k\"\n"),
            At(2) +
                "unknown key \"crisp.runtime.runtimes.kata.runtime_pth\": did you mean "
                "\"crisp.runtime.runtimes.kata.runtime_path\"?");
}

TEST_F(ConfigTest, WrongTypeNamesBothTypes) {
  EXPECT_EQ(ErrorOf("[crisp]\nroot = 7\n"), At(2) + "crisp.root: want a string, got an integer");
  EXPECT_EQ(ErrorOf("[crisp.runtime]\npids_limit = \"7\"\n"),
            At(2) + "crisp.runtime.pids_limit: want an integer, got a string");
  EXPECT_EQ(ErrorOf("[crisp.runtime]\npids_limit = 1.5\n"),
            At(2) + "crisp.runtime.pids_limit: want an integer, got a float");
  EXPECT_EQ(
      ErrorOf("[crisp.network]\nplugin_dirs = [1]\n"),
      At(2) + "crisp.network.plugin_dirs: want a list of strings, got a list of other things");
  EXPECT_EQ(ErrorOf("[crisp.root]\n"), At(1) + "crisp.root: want a string, got a table");
  EXPECT_EQ(ErrorOf("crisp = 1\n"), At(1) + "crisp: want a table");
}

TEST_F(ConfigTest, TextThatIsNoTomlStopsWithTheLine) {
  EXPECT_THAT(ErrorOf("[crisp]\nroot = \"/a\"\nroot = \"/b\"\n"), StartsWith(At(3)));
  EXPECT_THAT(ErrorOf("[crisp\n"), StartsWith(At(1)));
}

TEST_F(ConfigTest, BadValuesStopWithTheLine) {
  EXPECT_EQ(ErrorOf("[crisp]\nroot = \"var\"\n"),
            At(2) + "crisp.root: want an absolute path, got \"var\"");
  EXPECT_THAT(ErrorOf("[crisp.runtime]\nlog_level = \"loud\"\n"), HasSubstr("loud"));
  EXPECT_THAT(ErrorOf("[crisp.runtime]\ncgroup_manager = \"upstart\"\n"),
              HasSubstr("unknown cgroup manager \"upstart\""));
  EXPECT_THAT(ErrorOf("[crisp.runtime]\ndefault_ulimits = [\"nofile=2048:1024\"]\n"),
              HasSubstr("want NAME=SOFT:HARD"));
  EXPECT_THAT(ErrorOf("[crisp.runtime]\ndefault_env = [\"A=1\", \"B\"]\n"),
              HasSubstr("want NAME=VALUE, got \"B\""));
  EXPECT_THAT(ErrorOf("[crisp.runtime]\ndefault_ulimits = [\"nofiles=1:2\"]\n"),
              HasSubstr("\"nofiles\" is no limit"));
  EXPECT_THAT(ErrorOf("[crisp.runtime]\ndefault_capabilities = [\"CHOWN\", \"FLY\"]\n"),
              HasSubstr("got \"FLY\""));
  EXPECT_THAT(ErrorOf("[crisp.runtime]\ndefault_sysctls = [\"vm.swappiness=1\"]\n"),
              HasSubstr("vm.swappiness: it belongs to no namespace of a pod"));
  EXPECT_THAT(ErrorOf("[crisp.runtime]\nadditional_devices = [\"/dev/fuse:/etc/fuse\"]\n"),
              HasSubstr("with CONTAINER in /dev, got \"/dev/fuse:/etc/fuse\""));
  EXPECT_THAT(ErrorOf("[crisp.api]\ngrpc_max_recv_msg_size = 1\n"), HasSubstr("bytes, got 1"));
  EXPECT_THAT(ErrorOf("[crisp.api]\nlisten = \"/" + std::string(107, 'a') + "\"\n"),
              HasSubstr("at most 107 bytes"));
  EXPECT_THAT(ErrorOf("[crisp.runtime]\nwork_cgroup = \"/a/../..\"\n"), HasSubstr("cgroup"));
}

TEST_F(ConfigTest, KeysAboutStreamingAreChecked) {
  const auto api = [&](const std::string& line) { return ErrorOf("[crisp.api]\n" + line + "\n"); };
  EXPECT_EQ(api("stream_address = \"localhost\""),
            At(2) + "crisp.api.stream_address: want an IP address, got \"localhost\"");
  EXPECT_THAT(api("stream_address = \"\""), HasSubstr("want an IP address"));
  EXPECT_THAT(api("stream_port = 65536"), HasSubstr("stream_port: want 0 to 65535, got 65536"));
  EXPECT_THAT(api("stream_port = -1"), HasSubstr("got -1"));
  EXPECT_THAT(api("tls_min_version = \"VersionTLS11\""), HasSubstr("got \"VersionTLS11\""));
  EXPECT_THAT(api("tls_cipher_suites = [\"ECDHE-RSA-AES128-GCM-SHA256:!aNULL\"]"),
              HasSubstr("want a name such as"));
  EXPECT_THAT(api("stream_idle_timeout = -1"), HasSubstr("stream_idle_timeout"));
  WriteFile("[crisp.api]\nstream_address = \"::\"\nstream_idle_timeout = 0\n");
  EXPECT_EQ(Load().stream_address, "::");
  for (const char* key : {"stream_creation_timeout", "stream_linger_timeout", "stream_max_sessions",
                          "stream_max_streams", "stream_max_urls", "stream_max_frame_size",
                          "stream_max_header_size"}) {
    EXPECT_THAT(api(base::StrCat(key, " = 0")), HasSubstr(key));
    EXPECT_THAT(api(base::StrCat(key, " = 9999999999")), HasSubstr(key));
  }
}

TEST_F(ConfigTest, StreamingOverTlsNeedsCertificateAndKey) {
  EXPECT_EQ(ErrorOf("[crisp.api]\nstream_enable_tls = true\n"),
            At(2) + "crisp.api.stream_enable_tls: the key stream_tls_cert is missing");
  EXPECT_THAT(ErrorOf("[crisp.api]\nstream_enable_tls = true\nstream_tls_cert = \"/a.crt\"\n"),
              HasSubstr("stream_tls_key is missing"));
  WriteFile(
      "[crisp.api]\nstream_enable_tls = true\nstream_tls_cert = \"/a.crt\"\n"
      "stream_tls_key = \"/a.key\"\n");
  EXPECT_TRUE(Load().stream_enable_tls);
}

TEST_F(ConfigTest, TheStreamingServersCgroupIsItsOwn) {
  for (const char* other : {"conmon_cgroup", "work_cgroup"}) {
    EXPECT_EQ(
        ErrorOf(base::StrCat("[crisp.runtime]\n", other, " = \"/a\"\nstream_cgroup = \"/a\"\n")),
        At(3) +
            "crisp.runtime.stream_cgroup: the cgroups of monitors and of helpers must be "
            "others");
  }
}

TEST_F(ConfigTest, DefaultRuntimeMustBeAHandler) {
  EXPECT_EQ(ErrorOf("[crisp.runtime]\ndefault_runtime = \"kata\"\n"),
            At(2) + "crisp.runtime.default_runtime: \"kata\" is none of the runtimes: crun, runc");
}

TEST_F(ConfigTest, AHandlerOfAFileJoinsTheDefaultOnes) {
  WriteFile("[crisp.runtime.runtimes.kata]\nruntime_path = \"/opt/kata\"\n");
  const Config config = Load();
  EXPECT_EQ(config.runtimes.size(), 3u);
  EXPECT_EQ(config.runtimes.at("kata").runtime_path, "/opt/kata");
  EXPECT_EQ(config.runtimes.at("kata").runtime_root, "/run/crisp/runtime/kata");
  EXPECT_EQ(config.Origin("crisp.runtime.runtimes.kata.runtime_path"), sources_.file + ":2");
}

TEST_F(ConfigTest, AHandlerWithoutAProgramIsRefused) {
  EXPECT_EQ(ErrorOf("[crisp.runtime.runtimes.kata]\n"),
            At(1) + "crisp.runtime.runtimes.kata: the key runtime_path is missing");
  EXPECT_THAT(ErrorOf("[crisp.runtime.runtimes.\"a/b\"]\nruntime_path = \"/x\"\n"),
              HasSubstr("no name for a runtime handler"));
}

TEST_F(ConfigTest, ADropInMayHoldOneHandler) {
  WriteDropIn("50-gvisor.conf",
              "[crisp.runtime.runtimes.gvisor]\nruntime_path = \"/usr/bin/runsc\"\n"
              "runtime_arguments = [\"--platform=kvm\"]\nmonitor_env = [\"A=b\"]\n"
              "[crisp.runtime.runtimes.gvisor.default_annotations]\n\"a.b/c\" = \"x=y\"\n");
  const RuntimeHandler handler = Load().runtimes.at("gvisor");
  EXPECT_EQ(handler.runtime_type, "oci");
  EXPECT_THAT(handler.runtime_arguments, ElementsAre("--platform=kvm"));
  EXPECT_THAT(handler.monitor_env, ElementsAre("A=b"));
  EXPECT_THAT(handler.default_annotations, ElementsAre("a.b/c=x=y"));
}

TEST_F(ConfigTest, AHandlerMayTakeWhatItDoesNotSetFromTheDefaultOne) {
  WriteFile(
      "[crisp.runtime.runtimes.crun]\nruntime_path = \"/opt/crun\"\nmonitor_cgroup = \"/m\"\n"
      "allowed_annotations = [\"a\"]\n"
      "[crisp.runtime.runtimes.plain]\ninherit_default_runtime = true\n"
      "[crisp.runtime.runtimes.own]\ninherit_default_runtime = true\nmonitor_cgroup = \"/n\"\n");
  const Config config = Load();
  EXPECT_EQ(config.runtimes.at("plain").runtime_path, "/opt/crun");
  EXPECT_EQ(config.runtimes.at("plain").monitor_cgroup, "/m");
  EXPECT_EQ(config.runtimes.at("plain").runtime_root, "/run/crisp/runtime/plain");
  EXPECT_TRUE(config.runtimes.at("plain").allowed_annotations.empty());
  EXPECT_EQ(config.runtimes.at("own").monitor_cgroup, "/n");
  EXPECT_EQ(config.Origin("crisp.runtime.runtimes.plain.runtime_path"), "inherit_default_runtime");
}

TEST_F(ConfigTest, WhatAHandlerCannotBeIsRefusedWithItsKey) {
  const std::string table = "[crisp.runtime.runtimes.x]\nruntime_path = \"/x\"\n";
  EXPECT_THAT(ErrorOf(table + "runtime_type = \"vm\"\n"),
              HasSubstr("runtimes.x.runtime_type: the runtime type \"vm\""));
  EXPECT_THAT(ErrorOf(table + "runtime_type = \"pod\"\n"), HasSubstr("use \"oci\""));
  EXPECT_THAT(ErrorOf(table + "runtime_arguments = [\"debug\"]\n"),
              HasSubstr("runtimes.x.runtime_arguments: want an option"));
  EXPECT_THAT(ErrorOf(table + "container_min_memory = \"much\"\n"),
              HasSubstr("runtimes.x.container_min_memory: want a size"));
  EXPECT_THAT(ErrorOf(table + "monitor_cgroup = \"/a/..\"\n"),
              HasSubstr("runtimes.x.monitor_cgroup"));
  EXPECT_THAT(ErrorOf(table + "monitor_env = [\"A\"]\n"), HasSubstr("want NAME=VALUE"));
  EXPECT_THAT(ErrorOf(table + "default_annotations = {a = 1}\n"),
              HasSubstr("runtimes.x.default_annotations: want names with texts"));
}

TEST_F(ConfigTest, WhatConfigPrintsIsReadBackAsTheSameConfig) {
  WriteFile(
      "[crisp]\nroot = \"/srv/\\\"odd\\\\\"\n[crisp.runtime]\ndefault_env = [\"A=\\u0001\"]\n");
  AddFlag("--pids-limit", {"17"});
  const std::string printed = FormatConfig(Load());
  EXPECT_THAT(printed, HasSubstr("pids_limit = 17  # --pids-limit\n"));
  EXPECT_THAT(printed, HasSubstr("  # " + sources_.file + ":2\n"));

  WriteFile(printed);
  sources_.flags.clear();
  const Config again = Load();
  EXPECT_EQ(again.root, "/srv/\"odd\\");
  EXPECT_EQ(again.default_env, std::vector<std::string>{"A=\x01"});
  EXPECT_EQ(again.pids_limit, 17);
}

// The text without the comment signs in front of tables and keys.
std::string Uncomment(const std::string& text) {
  std::string out;
  size_t start = 0;
  while (start < text.size()) {
    const size_t end = text.find('\n', start);
    std::string line = text.substr(start, end - start);
    const size_t equals = line.find(" = ");
    const bool is_key =
        line.starts_with("# ") && equals != std::string::npos && line.find(' ', 2) == equals;
    if (is_key || line.starts_with("# [")) {
      line = line.substr(2);
    }
    out += line + "\n";
    start = end + 1;
  }
  return out;
}

TEST_F(ConfigTest, TheTemplateChangesNothing) {
  WriteFile(ConfigTemplate());
  EXPECT_TRUE(Load().origins.empty());
}

TEST_F(ConfigTest, TheTemplateUncommentedHoldsEveryKeyAtItsDefault) {
  const std::string defaults = FormatConfig(Load());
  WriteFile(Uncomment(ConfigTemplate()));
  Config config = Load();
  for (const ConfigKey<Config>& key : ConfigKeys()) {
    EXPECT_THAT(config.Origin(key.Dotted()), StartsWith(sources_.file)) << key.Dotted();
  }
  for (const ConfigKey<RuntimeHandler>& key : HandlerKeys()) {
    EXPECT_THAT(config.Origin(HandlerKey("crun", key.name)), StartsWith(sources_.file)) << key.name;
  }
  config.origins.clear();
  EXPECT_EQ(FormatConfig(config), defaults);
}

TEST_F(ConfigTest, EveryKeyHasItsOwnFlag) {
  std::set<std::string> flags;
  for (const ConfigFlag& flag : ConfigFlags()) {
    EXPECT_THAT(flag.flag, StartsWith("--"));
    EXPECT_TRUE(flags.insert(flag.flag).second) << flag.flag;
  }
  EXPECT_EQ(flags.size(), ConfigKeys().size());
}

TEST_F(ConfigTest, AFlagWithABadValueIsNamed) {
  for (const ConfigFlag& flag : ConfigFlags()) {
    if (flag.flag == "--pids-limit") {
      EXPECT_EQ(ParseConfigFlag(flag, {"many"}).status().message(),
                "--pids-limit: want an integer, got a string");
    }
    if (flag.flag == "--root") {
      EXPECT_EQ(ParseConfigFlag(flag, {"here"}).status().message(),
                "--root: want an absolute path, got \"here\"");
    }
  }
}

TEST(EditDistanceTest, CountsEditsAndSwapsOfNeighbours) {
  EXPECT_EQ(EditDistance("", "abc"), 3u);
  EXPECT_EQ(EditDistance("conmon", "conmom"), 1u);
  EXPECT_EQ(EditDistance("root", "roto"), 1u);
  EXPECT_EQ(EditDistance("kitten", "sitting"), 3u);
}

TEST(ResolveHostTest, TheCgroupsOfHelpersFollowTheDriver) {
  Config config;
  config.cgroup_manager = "cgroupfs";
  ResolveHost("crisp", &config);
  EXPECT_EQ(config.conmon_cgroup, "/crisp-monitors");
  EXPECT_EQ(config.work_cgroup, "/crisp-work");
  EXPECT_EQ(config.stream_cgroup, "/crisp-streams");
  config = Config();
  config.cgroup_manager = "systemd";
  config.work_cgroup = "/mine";
  ResolveHost("crisp", &config);
  EXPECT_EQ(config.conmon_cgroup, "/system.slice/crisp-monitors.service/monitors");
  EXPECT_EQ(config.work_cgroup, "/mine");
  EXPECT_EQ(config.stream_cgroup, "/system.slice/crisp-monitors.service/streams");
}

TEST(ResolveHostTest, HelpersAreTakenFromBesideTheProgram) {
  char path[] = "/tmp/crisp-host-XXXXXX";
  const std::string directory = mkdtemp(path);
  ASSERT_TRUE(
      base::ReplaceFile(directory + "/crisp-monitor", "", 0755, base::Durability::kVolatile).ok());
  Config config;
  config.init_path = "/named/by/the/user";
  ResolveHost(directory + "/crisp", &config);
  EXPECT_EQ(config.conmon, directory + "/crisp-monitor");
  EXPECT_EQ(config.init_path, "/named/by/the/user");
  EXPECT_EQ(config.cgroup_manager, base::SystemdIsInit() ? "systemd" : "cgroupfs");
  EXPECT_EQ(config.pull_path, "/usr/libexec/crisp/crisp-pull");
  EXPECT_EQ(config.stream_path, "/usr/libexec/crisp/crisp-stream");
  ASSERT_TRUE(base::RemoveTree(directory).ok());
}

}  // namespace
}  // namespace crispd
