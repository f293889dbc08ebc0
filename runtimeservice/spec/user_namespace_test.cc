#include "runtimeservice/spec/user_namespace.h"

#include "gmock/gmock.h"
#include "runtimeservice/spec/spec_test_input.h"

namespace runtimeservice {
namespace {

using ::testing::HasSubstr;

cri::IDMapping Mapping(uint32_t container, uint32_t host, uint32_t length) {
  cri::IDMapping mapping;
  mapping.set_container_id(container);
  mapping.set_host_id(host);
  mapping.set_length(length);
  return mapping;
}

cri::NamespaceOption Options() {
  cri::NamespaceOption options;
  cri::UserNamespace* user = options.mutable_userns_options();
  user->set_mode(cri::POD);
  *user->add_uids() = Mapping(0, 100000, 65536);
  *user->add_gids() = Mapping(0, 200000, 65536);
  return options;
}

cri::PodSandboxConfig Pod() {
  cri::PodSandboxConfig pod;
  *pod.mutable_linux()->mutable_security_context()->mutable_namespace_options() = Options();
  return pod;
}

void ExpectRefused(const absl::Status& status, const std::string& words) {
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(words));
}

TEST(UserNamespaceTest, OneMappingOfEachIsTaken) {
  EXPECT_TRUE(CheckUserNamespace(Options(), "x").ok());
  const auto map = PodIdMap(Pod());
  ASSERT_TRUE(map.has_value());
  EXPECT_EQ(map->uids, (base::IdRange{.inside = 0, .outside = 100000, .length = 65536}));
  EXPECT_EQ(map->gids, (base::IdRange{.inside = 0, .outside = 200000, .length = 65536}));
  cri::NamespaceOption last = Options();
  *last.mutable_userns_options()->mutable_uids(0) = Mapping(0, 4294967294, 1);
  EXPECT_TRUE(CheckUserNamespace(last, "x").ok());
}

TEST(UserNamespaceTest, NoneAndTheHostsAreTheHosts) {
  EXPECT_TRUE(CheckUserNamespace({}, "x").ok());
  EXPECT_FALSE(PodIdMap({}).has_value());
  cri::PodSandboxConfig pod;
  cri::NamespaceOption* options =
      pod.mutable_linux()->mutable_security_context()->mutable_namespace_options();
  options->mutable_userns_options()->set_mode(cri::NODE);
  EXPECT_TRUE(CheckUserNamespace(*options, "x").ok());
  EXPECT_FALSE(PodIdMap(pod).has_value());
}

TEST(UserNamespaceTest, WhatCannotBeObeyedIsRefusedByItsField) {
  const auto refused = [](auto change, const std::string& words) {
    cri::NamespaceOption options = Options();
    change(options.mutable_userns_options());
    ExpectRefused(CheckUserNamespace(options, "x"), "x.namespace_options.userns_options" + words);
  };
  refused([](auto* user) { user->set_mode(cri::CONTAINER); }, ".mode");
  refused([](auto* user) { user->set_mode(cri::TARGET); }, ".mode");
  refused([](auto* user) { user->set_mode(cri::NODE); }, ": mappings");
  refused([](auto* user) { user->clear_uids(); }, ".uids");
  refused([](auto* user) { user->clear_gids(); }, ".gids");
  refused([](auto* user) { *user->add_uids() = Mapping(65536, 400000, 1); }, ".uids");
  refused([](auto* user) { *user->add_gids() = Mapping(65536, 400000, 1); }, ".gids");
  refused([](auto* user) { user->mutable_uids(0)->set_length(0); }, ".uids[0].length");
  refused([](auto* user) { user->mutable_gids(0)->set_length(0); }, ".gids[0].length");
  refused([](auto* user) { user->mutable_uids(0)->set_container_id(1); }, ".uids[0].container_id");
  refused([](auto* user) { user->mutable_gids(0)->set_container_id(1); }, ".gids[0].container_id");
  refused([](auto* user) { user->mutable_uids(0)->set_host_id(4294967295); }, ".uids[0]");
  refused([](auto* user) { user->mutable_gids(0)->set_length(4294967295); }, ".gids[0]");
}

TEST(UserNamespaceTest, AContainerMayRepeatItsPodsAndHasItWithoutWords) {
  cri::ContainerConfig container;
  EXPECT_TRUE(CheckContainerUserNamespace(Pod(), container).ok());
  cri::NamespaceOption* own =
      container.mutable_linux()->mutable_security_context()->mutable_namespace_options();
  EXPECT_TRUE(CheckContainerUserNamespace(Pod(), container).ok());
  *own = Options();
  EXPECT_TRUE(CheckContainerUserNamespace(Pod(), container).ok());
}

TEST(UserNamespaceTest, AContainerCannotContradictItsPod) {
  cri::ContainerConfig container;
  cri::NamespaceOption* own =
      container.mutable_linux()->mutable_security_context()->mutable_namespace_options();
  *own = Options();
  ExpectRefused(CheckContainerUserNamespace({}, container), "userns_options");
  own->mutable_userns_options()->mutable_gids(0)->set_host_id(100000);
  ExpectRefused(CheckContainerUserNamespace(Pod(), container), "userns_options");
  own->mutable_userns_options()->Clear();
  own->mutable_userns_options()->set_mode(cri::NODE);
  ExpectRefused(CheckContainerUserNamespace(Pod(), container), "userns_options");
  EXPECT_TRUE(CheckContainerUserNamespace({}, container).ok());
  own->clear_userns_options();
  own->set_pid(cri::NODE);
  ExpectRefused(CheckContainerUserNamespace(Pod(), container), "namespace_options.pid");
}

TEST(UserNamespaceTest, AMountsMappingsAreItsPods) {
  cri::ContainerConfig container;
  container.add_mounts();
  cri::Mount* mount = container.add_mounts();
  *mount->add_uidmappings() = Mapping(0, 100000, 65536);
  ExpectRefused(CheckContainerUserNamespace(Pod(), container), "mounts[1].gidMappings");
  *mount->add_gidmappings() = Mapping(0, 200000, 65536);
  EXPECT_TRUE(CheckContainerUserNamespace(Pod(), container).ok());
  ExpectRefused(CheckContainerUserNamespace({}, container), "mounts[1].uidMappings");
  mount->mutable_uidmappings(0)->set_host_id(0);
  ExpectRefused(CheckContainerUserNamespace(Pod(), container), "mounts[1].uidMappings");
}

TEST(UserNamespaceTest, IdsBeyondTheMapAreRefused) {
  const base::IdMap map = *PodIdMap(Pod());
  EXPECT_TRUE(CheckMapped({65535, 65535, {0, 65535}}, map).ok());
  ExpectRefused(CheckMapped({65536, 0, {0}}, map), "user 65536");
  ExpectRefused(CheckMapped({0, 65536, {65536}}, map), "group 65536");
  ExpectRefused(CheckMapped({0, 0, {0, 70000}}, map), "group 70000");
}

class UserNamespaceSpecTest : public testing::Test, protected TestInput {
 protected:
  UserNamespaceSpecTest() {
    pod = Pod();
    namespaces.user = "/ns/user";
  }
  std::string MountAt(const std::string& destination) const {
    for (const base::OrderedJson& mount : At(Spec(), "/mounts")) {
      if (mount["destination"] == destination) return mount.dump();
    }
    return "";
  }
};

TEST_F(UserNamespaceSpecTest, IsJoinedAndItsMapsRepeated) {
  const base::OrderedJson spec = Spec();
  EXPECT_THAT(At(spec, "/linux/namespaces").dump(),
              HasSubstr(R"({"type":"user","path":"/ns/user"})"));
  EXPECT_EQ(At(spec, "/linux/uidMappings").dump(),
            R"([{"containerID":0,"hostID":100000,"size":65536}])");
  EXPECT_EQ(At(spec, "/linux/gidMappings").dump(),
            R"([{"containerID":0,"hostID":200000,"size":65536}])");
  pod.clear_linux();
  EXPECT_TRUE(At(Spec(), "/linux/uidMappings").is_null());
  EXPECT_THAT(At(Spec(), "/linux/namespaces").dump(), testing::Not(HasSubstr("user")));
}

TEST_F(UserNamespaceSpecTest, MountsOnlyWhatTheNamespaceMay) {
  EXPECT_THAT(MountAt("/sys"), HasSubstr(R"("type":"sysfs")"));
  EXPECT_THAT(MountAt("/dev/mqueue"), HasSubstr(R"("type":"mqueue")"));
  EXPECT_THAT(MountAt("/dev/pts"), HasSubstr("gid=5"));
  sysfs = "/bundle/sys";
  mutable_pod_namespaces()->set_ipc(cri::NODE);
  mutable_pod_namespaces()->mutable_userns_options()->mutable_gids(0)->set_length(5);
  EXPECT_THAT(MountAt("/sys"), HasSubstr(R"("type":"bind","source":"/bundle/sys")"));
  EXPECT_EQ(MountAt("/dev/mqueue"), "");
  EXPECT_THAT(MountAt("/dev/pts"), testing::Not(HasSubstr("gid=5")));
}

TEST_F(UserNamespaceSpecTest, APrivilegedContainerHasItsOwnCgroupNamespace) {
  MakePrivileged();
  EXPECT_THAT(At(Spec(), "/linux/namespaces").dump(), HasSubstr("cgroup"));
}

}  // namespace
}  // namespace runtimeservice
