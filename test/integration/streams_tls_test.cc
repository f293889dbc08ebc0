// Exec and port-forward over TLS: client certificates, versions, certificates that are replaced.
#include "absl/strings/match.h"
#include "base/files.h"
#include "base/strings.h"
#include "test/integration/streams_fixture.h"

namespace test {
namespace {

class StreamsTlsTest : public StreamsFixture, public testing::WithParamInterface<Transport> {
 protected:
  void SetUp() override {
    StreamsFixture::SetUp();
    if (HasFatalFailure() || IsSkipped()) return;
    folder_ = environment().Get("RUN_ROOT") + "/../certificates";
    ASSERT_OK(base::MakeDirectories(folder_, 0700));
    MakeAuthority("ca");
    MakeCertificate("server", "ca");
    MakeCertificate("client", "ca");
    ASSERT_OK(daemon().Crash());
    ASSERT_OK(environment().EditConfig(
        "[crisp.api]",
        base::StrCat("[crisp.api]\nstream_enable_tls = true\nstream_tls_cert = \"",
                     Path("server.crt"), "\"\nstream_tls_key = \"", Path("server.key"),
                     "\"\nstream_tls_ca = \"", Path("ca.crt"), "\"")));
    ASSERT_OK(daemon().Start());
  }
  std::string Path(std::string_view name) const { return base::StrCat(folder_, "/", name); }

  static void OpenSsl(const std::vector<std::string>& arguments) {
    base::Command command;
    command.argv = {"/usr/bin/openssl"};
    command.argv.insert(command.argv.end(), arguments.begin(), arguments.end());
    const auto result = base::RunCommand(base::Context::Detached(absl::Seconds(30)), command);
    ASSERT_OK(result);
    ASSERT_EQ(result->exit.code, 0) << result->err;
  }
  void MakeAuthority(const std::string& name) const {
    OpenSsl({"req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
             "-days", "1", "-subj", "/CN=" + name, "-keyout", Path(name + ".key"), "-out",
             Path(name + ".crt")});
  }
  // Replaces both files, one after the other.
  void MakeCertificate(const std::string& name, const std::string& authority) const {
    ASSERT_OK(base::ReplaceFile(Path("extensions"), "subjectAltName=IP:127.0.0.1,DNS:localhost\n",
                                0600, base::Durability::kVolatile));
    OpenSsl({"req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj",
             "/CN=" + name, "-keyout", Path(name + ".key"), "-out", Path(name + ".csr")});
    OpenSsl({"x509", "-req", "-in", Path(name + ".csr"), "-CA", Path(authority + ".crt"), "-CAkey",
             Path(authority + ".key"), "-days", "1", "-extfile", Path("extensions"), "-out",
             Path(name + ".crt")});
  }
  // A client that believes `ca` and shows its certificate.
  CommandOptions Options(const std::string& ca, std::string_view streams) const {
    CommandOptions options = Streams(GetParam(), streams);
    options.tls = {
        .ca = Path(ca + ".crt"), .certificate = Path("client.crt"), .key = Path("client.key")};
    return options;
  }

 private:
  std::string folder_;
};

TEST_P(StreamsTlsTest, ACommandRunsForAClientWithACertificateAndForNoOther) {
  ASSERT_OK_AND_ASSIGN(const std::string url, ExecUrl({"true"}, Options("ca", "o")));
  EXPECT_TRUE(absl::StartsWith(url, "https://127.0.0.1:")) << url;
  CommandOptions stranger = Options("ca", "o");
  stranger.tls.certificate.clear();
  stranger.tls.key.clear();
  EXPECT_FALSE(OpenExec("true", stranger).ok());
  ASSERT_OK_AND_ASSIGN(const CommandOutcome outcome,
                       RunExec("cat; exit 3", Options("ca", "io"), "over TLS\n"));
  EXPECT_EQ(outcome.out, "over TLS\n");
  EXPECT_EQ(outcome.exit_code(), 3) << outcome.status;
  EXPECT_TRUE(outcome.complete);
}

TEST_P(StreamsTlsTest, MegabytesArriveUnchanged) {
  ASSERT_OK_AND_ASSIGN(const CommandOutcome outcome, RunExec("seq 1 2000000", Options("ca", "o")));
  ASSERT_OK_AND_ASSIGN(const auto expected,
                       Exec(container(), {"sh", "-c", "seq 1 2000000 | md5sum"}));
  ASSERT_OK_AND_ASSIGN(const CommandOutcome sum,
                       RunExec("md5sum", Options("ca", "io"), outcome.out));
  EXPECT_EQ(sum.out, expected.stdout());
}

TEST_P(StreamsTlsTest, ANewCertificateIsServedAndOpenSessionsGoOn) {
  ASSERT_OK_AND_ASSIGN(auto open, OpenExec("read line; echo \"got $line\"", Options("ca", "io")));
  const pid_t server = StreamServer();
  MakeAuthority("other");
  MakeCertificate("server", "other");
  EXPECT_FALSE(OpenExec("true", Options("ca", "o")).ok());
  ASSERT_OK_AND_ASSIGN(const CommandOutcome outcome, RunExec("echo new", Options("other", "o")));
  EXPECT_EQ(outcome.out, "new\n");
  ASSERT_OK(open->Send(Channel::kStdin, "old\n"));
  ASSERT_OK_AND_ASSIGN(const CommandOutcome old, open->ReadAll());
  EXPECT_EQ(old.out, "got old\n");
  EXPECT_EQ(StreamServer(), server);
}

TEST_P(StreamsTlsTest, CrictlRunsACommand) {
  if (!base::Exists(SourcePath("build/critest/crictl"))) {
    GTEST_SKIP() << "SKIP: build/critest/crictl (test/critest/run --build-only)";
  }
  const std::string transport = GetParam() == Transport::kSpdy ? "spdy" : "websocket";
  ASSERT_OK_AND_ASSIGN(
      const base::CommandResult result,
      Crictl({"exec", "--transport", transport, "--tls-ca", Path("ca.crt"), "--tls-cert",
              Path("client.crt"), "--tls-key", Path("client.key"), "-i", container(), "cat"},
             "by crictl\n"));
  EXPECT_EQ(result.exit.code, 0) << result.err;
  EXPECT_EQ(result.out, "by crictl\n");
}

INSTANTIATE_TEST_SUITE_P(All, StreamsTlsTest,
                         testing::Values(Transport::kSpdy, Transport::kWebSocket),
                         [](const auto& param) {
                           return param.param == Transport::kSpdy ? "Spdy" : "WebSocket";
                         });

}  // namespace
}  // namespace test
