#include "network/cni_config.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/strings.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "network/test_host.h"

namespace network {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string List(const std::string& name, const std::string& type = "bridge") {
  return base::StrCat(R"({"cniVersion":"1.0.0","name":")", name, R"(","plugins":[{"type":")", type,
                      R"("}]})");
}

std::string Message(const absl::Status& status) { return std::string(status.message()); }

TEST(CniListTest, PluginsKeepOrderCapabilitiesAndForeignMembers) {
  const auto network = ParseCniList(R"({"cniVersion":"0.4.0","name":"pods","plugins":[
      {"type":"bridge","mtu":1400},
      {"type":"portmap","capabilities":{"portMappings":true,"dns":false}}]})");
  ASSERT_TRUE(network.ok()) << network.status();
  EXPECT_EQ(network->name, "pods");
  EXPECT_EQ(network->cni_version, "0.4.0");
  ASSERT_EQ(network->plugins.size(), 2u);
  EXPECT_EQ(network->plugins[0].type, "bridge");
  EXPECT_EQ(network->plugins[0].config["mtu"], 1400);
  EXPECT_THAT(network->plugins[1].capabilities, ElementsAre("portMappings"));
}

TEST(CniListTest, HighestKnownVersionIsUsed) {
  EXPECT_EQ(ParseCniList(R"({"cniVersion":"0.4.0","cniVersions":["1.1.0","0.3.1","9.0.0"],
                             "name":"a","plugins":[{"type":"b"}]})")
                ->cni_version,
            "1.1.0");
}

TEST(CniListTest, FlagsMayBeBooleansOrWords) {
  const auto flag = [](const std::string& member) {
    return ParseCniList(base::StrCat(R"({"cniVersion":"1.1.0","name":"pods",)", member,
                                     R"(,"plugins":[{"type":"bridge"}]})"));
  };
  EXPECT_TRUE(flag(R"("disableGC":true)")->disable_gc);
  EXPECT_TRUE(flag(R"("disableGC":"True")")->disable_gc);
  EXPECT_FALSE(flag(R"("disableGC":"false")")->disable_gc);
  EXPECT_TRUE(ParseCniListObject(CniListJson(*flag(R"("disableGC":true)")))->disable_gc);
  EXPECT_TRUE(flag(R"("disableCheck":"true")").ok());
  for (const char* key : {"disableGC", "disableCheck", "loadOnlyInlinedPlugins"}) {
    for (const char* value : {"1", "\"yes\"", "[]"}) {
      const auto network = flag(base::StrCat("\"", key, "\":", value));
      EXPECT_TRUE(absl::IsInvalidArgument(network.status())) << key << value;
      EXPECT_THAT(Message(network.status()), HasSubstr(key));
    }
  }
}

TEST(CniListTest, ListSurvivesItsOwnJson) {
  const auto network = ParseCniList(List("pods"));
  ASSERT_TRUE(network.ok());
  const auto again = ParseCniListObject(CniListJson(*network));
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(CniListJson(*again), CniListJson(*network));
}

TEST(CniListTest, MalformedListsAreRefusedWithAReason) {
  const std::pair<const char*, const char*> cases[] = {
      {"", "parse"},
      {"[]", "object"},
      {R"({"cniVersion":"1.0.0","plugins":[{"type":"a"}]})", "\"name\""},
      {R"({"cniVersion":"1.0.0","name":"../x","plugins":[{"type":"a"}]})", "not a network name"},
      {R"({"cniVersion":"1.0.0","name":"_x","plugins":[{"type":"a"}]})", "not a network name"},
      {R"({"cniVersion":"0.2.0","name":"x","plugins":[{"type":"a"}]})", "0.3.0 to 1.1.0"},
      {R"({"name":"x","plugins":[{"type":"a"}]})", "0.3.0 to 1.1.0"},
      {R"({"cniVersion":1,"name":"x","plugins":[{"type":"a"}]})", "cniVersion"},
      {R"({"cniVersion":"1.0.0","name":"x","plugins":[]})", "no plugins"},
      {R"({"cniVersion":"1.0.0","name":"x"})", "no plugins"},
      {R"({"cniVersion":"1.0.0","name":"x","plugins":{"type":"a"}})", "not a list"},
      {R"({"cniVersion":"1.0.0","name":"x","plugins":["a"]})", "type"},
      {R"({"cniVersion":"1.0.0","name":"x","plugins":[{"mtu":1}]})", "no \"type\""},
      {R"({"cniVersion":"1.0.0","name":"x","plugins":[{"type":"a","capabilities":[]}]})",
       "capabilities"}};
  for (const auto& [text, reason] : cases) {
    const auto network = ParseCniList(text);
    EXPECT_TRUE(absl::IsInvalidArgument(network.status())) << text;
    EXPECT_THAT(Message(network.status()), HasSubstr(reason)) << text;
  }
}

TEST(CniListTest, HostilePluginNamesAreRefused) {
  for (const char* type : {"", ".", "..", "../bridge", "/bin/sh", "a/b", "a b", "a\nb", "a\x7f"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(CheckPluginType(type))) << type;
  }
  EXPECT_TRUE(absl::IsInvalidArgument(CheckPluginType(std::string("a\0b", 3))));
  EXPECT_TRUE(CheckPluginType("calico-ipam_v1.2").ok());
}

TEST(CniSinglePluginTest, PluginIsWrappedInANetworkOfOne) {
  const auto network =
      ParseCniSinglePlugin(R"({"cniVersion":"0.3.1","name":"one","type":"ptp","mtu":9})");
  ASSERT_TRUE(network.ok()) << network.status();
  EXPECT_EQ(network->name, "one");
  ASSERT_EQ(network->plugins.size(), 1u);
  EXPECT_EQ(network->plugins[0].config["mtu"], 9);
}

TEST(CniSinglePluginTest, ListInTheWrongFileIsNamed) {
  EXPECT_THAT(Message(ParseCniSinglePlugin(List("pods")).status()), HasSubstr(".conflist"));
}

class CniConfigDirectoryTest : public testing::Test {
 protected:
  // The name of the network in use, or the reason why there is none.
  static std::string Use(CniConfigDirectory* directory) {
    const auto networks = directory->Networks();
    if (!networks.ok()) {
      EXPECT_TRUE(absl::IsFailedPrecondition(networks.status()));
      return Message(networks.status());
    }
    return (*networks)->networks.front()->name;
  }
  std::string Complaint() {
    const auto networks = directory_.Networks();
    return networks.ok() ? (*networks)->complaint : Message(networks.status());
  }
  std::string Use() { return Use(&directory_); }

  // Makes all files look old, so that what was read of them is kept.
  void Age(const std::string& path) {
    const timespec past[] = {{.tv_sec = 1000, .tv_nsec = 0}, {.tv_sec = 1000, .tv_nsec = 0}};
    ASSERT_EQ(utimensat(AT_FDCWD, path.c_str(), past, 0), 0);
  }

  TempDir dir_;
  CniConfigDirectory directory_{dir_.path(), ""};
};

TEST_F(CniConfigDirectoryTest, MissingAndEmptyDirectoriesAreReported) {
  EXPECT_EQ(Use(), "no CNI configuration in " + dir_.path());
  CniConfigDirectory missing(dir_ / "none", "");
  EXPECT_EQ(Use(&missing), "no CNI configuration in " + dir_.path() + "/none");
}

TEST_F(CniConfigDirectoryTest, FirstValidFileByNameIsUsed) {
  WriteTestFile(dir_ / "30-c.conflist", List("third"));
  WriteTestFile(dir_ / "20-b.conf", R"({"cniVersion":"1.0.0","name":"second","type":"x"})");
  WriteTestFile(dir_ / "10-a.conflist", "{broken");
  WriteTestFile(dir_ / "05-readme.txt", List("zeroth"));
  EXPECT_EQ(Use(), "second");
}

TEST_F(CniConfigDirectoryTest, NamedNetworkIsUsed) {
  WriteTestFile(dir_ / "10-a.conflist", List("first"));
  WriteTestFile(dir_ / "20-b.conflist", List("second"));
  CniConfigDirectory second(dir_.path(), "second");
  EXPECT_EQ(Use(&second), "second");
  CniConfigDirectory third(dir_.path(), "third");
  EXPECT_EQ(Use(&third), "no CNI network third in " + dir_.path());
}

TEST_F(CniConfigDirectoryTest, ReasonNamesEachBrokenFile) {
  WriteTestFile(dir_ / "10-a.conflist", "{broken");
  WriteTestFile(dir_ / "20-b.json", R"({"cniVersion":"1.0.0","type":"x"})");
  const std::string reason = Use();
  EXPECT_THAT(reason,
              HasSubstr("no valid CNI configuration in " + dir_.path() + ": 10-a.conflist"));
  EXPECT_THAT(reason, HasSubstr("20-b.json: it has no \"name\""));
}

TEST_F(CniConfigDirectoryTest, ChangesTakeEffectAtOnce) {
  EXPECT_THAT(Use(), HasSubstr("no CNI configuration"));
  WriteTestFile(dir_ / "20.conflist", List("aaaa"));
  EXPECT_EQ(Use(), "aaaa");
  WriteTestFile(dir_ / "20.conflist", List("bbbb"));  // In place, of the same size.
  EXPECT_EQ(Use(), "bbbb");
  WriteTestFile(dir_ / "10.conflist", List("cccc"));
  EXPECT_EQ(Use(), "cccc");
  ASSERT_EQ(unlink((dir_ / "10.conflist").c_str()), 0);
  EXPECT_EQ(Use(), "bbbb");
  ASSERT_EQ(unlink((dir_ / "20.conflist").c_str()), 0);
  EXPECT_THAT(Use(), HasSubstr("no CNI configuration"));
}

TEST_F(CniConfigDirectoryTest, FileThatBecomesBrokenKeepsWhatItSaidAndIsNamed) {
  WriteTestFile(dir_ / "10.conflist", List("mesh"));
  WriteTestFile(dir_ / "20.conflist", List("bridge"));
  EXPECT_EQ(Use(), "mesh");
  EXPECT_EQ(Complaint(), "");
  WriteTestFile(dir_ / "10.conflist", "{half");
  EXPECT_EQ(Use(), "mesh");
  EXPECT_THAT(Complaint(), HasSubstr("10.conflist: "));
  EXPECT_THAT(Complaint(), HasSubstr("(what it said before holds)"));
  WriteTestFile(dir_ / "10.conflist", List("mesh2"));
  EXPECT_EQ(Use(), "mesh2");
  EXPECT_EQ(Complaint(), "");
  WriteTestFile(dir_ / "10.conflist", "{half");
  ASSERT_EQ(unlink((dir_ / "10.conflist").c_str()), 0);
  EXPECT_EQ(Use(), "bridge");
  // What it said before it went is forgotten.
  WriteTestFile(dir_ / "10.conflist", "{half");
  EXPECT_EQ(Use(), "bridge");
  EXPECT_THAT(Complaint(), HasSubstr("10.conflist: "));
}

TEST_F(CniConfigDirectoryTest, AdditionalNetworksComeInTheirOrderAfterTheDefault) {
  WriteTestFile(dir_ / "10.conflist", List("storage"));
  WriteTestFile(dir_ / "20.conflist", List("pods"));
  WriteTestFile(dir_ / "30.conflist", List("backup"));
  CniConfigDirectory directory(dir_.path(), "", {"backup", "storage"});
  const auto networks = directory.Networks();
  ASSERT_TRUE(networks.ok()) << networks.status();
  std::vector<std::string> names;
  for (const auto& network : (*networks)->networks) {
    names.push_back(network->name);
  }
  // The first file is nobody's default once it is asked for as an additional one.
  EXPECT_THAT(names, ElementsAre("pods", "backup", "storage"));
}

TEST_F(CniConfigDirectoryTest, MissingAdditionalNetworkIsNamed) {
  WriteTestFile(dir_ / "10.conflist", List("pods"));
  CniConfigDirectory directory(dir_.path(), "", {"storage"});
  EXPECT_EQ(Use(&directory), "no CNI network storage in " + dir_.path());
}

TEST_F(CniConfigDirectoryTest, UnchangedFilesAreNotReadAgain) {
  WriteTestFile(dir_ / "10.conflist", List("aaaa"));
  // Change times cannot be set back: wait until they are old enough to be trusted.
  std::shared_ptr<const CniNetworks> first;
  EXPECT_TRUE(Eventually([&] {
    first = *directory_.Networks();
    return *directory_.Networks() == first;
  }));
  Age(dir_ / "10.conflist");
  EXPECT_NE(*directory_.Networks(), first);
}

TEST_F(CniConfigDirectoryTest, PluginsOfTheListsFolderAreAdded) {
  WriteTestFile(dir_ / "10.conflist", List("pods"));
  WriteTestFile(dir_ / "pods/20-b.conf", R"({"type":"tuning"})");
  WriteTestFile(dir_ / "pods/10-a.conf", R"({"type":"portmap"})");
  WriteTestFile(dir_ / "pods/ignored.txt", R"({"type":"nothing"})");
  const auto networks = directory_.Networks();
  ASSERT_TRUE(networks.ok()) << networks.status();
  std::vector<std::string> types;
  for (const CniPluginConfig& plugin : (*networks)->networks.front()->plugins) {
    types.push_back(plugin.type);
  }
  EXPECT_THAT(types, ElementsAre("bridge", "portmap", "tuning"));
}

TEST_F(CniConfigDirectoryTest, FolderIsIgnoredWhenTheListSaysSo) {
  WriteTestFile(dir_ / "10.conflist",
                R"({"cniVersion":"1.1.0","name":"pods","loadOnlyInlinedPlugins":true,
                    "plugins":[{"type":"bridge"}]})");
  WriteTestFile(dir_ / "pods/10-a.conf", R"({"type":"portmap"})");
  EXPECT_EQ((*directory_.Networks())->networks.front()->plugins.size(), 1u);
}

}  // namespace
}  // namespace network
