#include "runtimeservice/state/registry.h"

#include <stdlib.h>

#include "base/files.h"
#include "base/strings.h"
#include "gtest/gtest.h"

namespace runtimeservice {
namespace {

class RegistryTest : public testing::Test {
 protected:
  RegistryTest() {
    char name[] = "/tmp/crisp-registry-XXXXXX";
    root_ = mkdtemp(name);
    registry_ = *Registry::Open(root_, root_ + "/run");
  }
  ~RegistryTest() override { EXPECT_TRUE(base::RemoveTree(root_).ok()); }

  void Restart() { registry_ = *Registry::Open(root_, root_ + "/run"); }

  Pod MakePod(const std::string& name, state::PodRecord::State now) {
    Pod pod{.id = base::PodId::Random(), .record = {}};
    pod.record.set_id(pod.id.str());
    pod.record.set_state(now);
    pod.record.mutable_config()->mutable_metadata()->set_name(name);
    EXPECT_TRUE(registry_->PutPod(pod).ok());
    return pod;
  }

  Container MakeContainer(const Pod& pod, const std::string& name) {
    Container container{.id = base::ContainerId::Random(), .pod = pod.id};
    container.record.set_id(container.id.str());
    container.record.set_pod_id(pod.id.str());
    container.record.set_state(state::ContainerRecord::CREATED);
    container.record.mutable_config()->mutable_metadata()->set_name(name);
    EXPECT_TRUE(registry_->PutContainer(container).ok());
    EXPECT_TRUE(
        base::MakeDirectories(base::StrCat(root_, "/run/containers/", container.id.str())).ok());
    return container;
  }

  std::string root_;
  std::unique_ptr<Registry> registry_;
};

TEST_F(RegistryTest, WhatWasPutIsThereAfterARestart) {
  const Pod pod = MakePod("web", state::PodRecord::READY);
  const Container container = MakeContainer(pod, "nginx");
  state::ContainerRunRecord run;
  run.set_started_at(7);
  ASSERT_TRUE(registry_->PutRun(container.id, run).ok());
  Restart();
  ASSERT_NE(registry_->FindPod(pod.id), nullptr);
  EXPECT_EQ(registry_->FindPodByName(PodName(pod.record.config().metadata()))->id, pod.id);
  ASSERT_NE(registry_->FindContainer(container.id), nullptr);
  EXPECT_EQ(registry_->FindContainer(container.id)->CriState(), cri::CONTAINER_RUNNING);
  EXPECT_EQ(registry_->ContainersOf(pod.id).size(), 1u);
}

TEST_F(RegistryTest, UniquePrefixesResolveAndOthersDoNot) {
  const Pod one = MakePod("one", state::PodRecord::READY);
  MakePod("half-made", state::PodRecord::CREATING);
  EXPECT_EQ((*registry_->ResolvePod(one.id.str().substr(0, 20)))->id, one.id);
  EXPECT_TRUE(absl::IsInvalidArgument(registry_->ResolvePod("").status()));
  EXPECT_TRUE(absl::IsNotFound(registry_->ResolvePod("zz").status()));
  for (int i = 0; i < 17; ++i) {
    MakePod(base::StrCat("more", i), state::PodRecord::READY);
  }
  int ambiguous = 0;
  for (const char digit : std::string("0123456789abcdef")) {
    ambiguous += absl::IsInvalidArgument(registry_->ResolvePod(std::string(1, digit)).status());
  }
  EXPECT_GT(ambiguous, 0);  // 18 ids, 16 digits.
}

TEST_F(RegistryTest, PodsBeingCreatedAreNotFound) {
  const Pod pod = MakePod("web", state::PodRecord::CREATING);
  EXPECT_TRUE(absl::IsNotFound(registry_->ResolvePod(pod.id.str()).status()));
  EXPECT_NE(registry_->FindPod(pod.id), nullptr);
}

TEST_F(RegistryTest, TheFirstExitStays) {
  const Container container = MakeContainer(MakePod("web", state::PodRecord::READY), "c");
  registry_->SetExit(container.id, {.code = 3});
  registry_->SetExit(container.id, {.code = 4});
  EXPECT_EQ(registry_->FindContainer(container.id)->exit->code, 3);
  // A late record of the start does not lose the exit.
  state::ContainerRunRecord run;
  run.set_started_at(1);
  ASSERT_TRUE(registry_->PutRun(container.id, run).ok());
  EXPECT_EQ(registry_->FindContainer(container.id)->CriState(), cri::CONTAINER_EXITED);
}

TEST_F(RegistryTest, ARecordThatMakesNoSenseIsSetAside) {
  const Pod pod = MakePod("web", state::PodRecord::READY);
  const base::RecordStore store =
      *base::RecordStore::Open(root_ + "/records/pods", base::Durability::kVolatile);
  const std::string other = base::RandomHex64();
  ASSERT_TRUE(store.Put(other, pod.record.SerializeAsString()).ok());  // Under another's name.
  ASSERT_TRUE(store.Put(base::RandomHex64(), "\xff\xff\xff").ok());
  Restart();
  EXPECT_EQ(registry_->Pods().size(), 1u);
  EXPECT_TRUE(base::Exists(base::StrCat(root_, "/records/pods/corrupt/", other)));
}

TEST_F(RegistryTest, DeletedObjectsGiveTheirNamesBack) {
  const Pod pod = MakePod("web", state::PodRecord::READY);
  const std::string name = PodName(pod.record.config().metadata());
  ASSERT_TRUE(registry_->DeletePod(pod.id).ok());
  ASSERT_TRUE(registry_->DeletePod(pod.id).ok());
  EXPECT_EQ(registry_->FindPodByName(name), nullptr);
  Restart();
  EXPECT_TRUE(registry_->Pods().empty());
}

TEST_F(RegistryTest, AnOlderCopyOfTheRecordDoesNotBringAnEndedProcessBack) {
  Container copy = MakeContainer(MakePod("web", state::PodRecord::READY), "c");
  registry_->SetPid(copy.id, 77);
  EXPECT_EQ(registry_->FindContainer(copy.id)->pid, 77);
  registry_->SetExit(copy.id, {.code = 3});
  copy.record.set_state(state::ContainerRecord::REMOVING);
  registry_->ShowContainer(copy);
  EXPECT_EQ(registry_->FindContainer(copy.id)->CriState(), cri::CONTAINER_EXITED);
  EXPECT_EQ(registry_->FindContainer(copy.id)->pid, 0);
}

TEST_F(RegistryTest, APodOnItsWayOutDoesNotTakeItsNameBack) {
  for (int i = 0; i < 8; ++i) {  // Ids are random, and so is the order of loading.
    const std::string name = base::StrCat("web", i);
    const Pod leaving = MakePod(name, state::PodRecord::REMOVING);
    const Pod ready = MakePod(name, state::PodRecord::READY);
    Restart();
    const PodRef found = registry_->FindPodByName(PodName(ready.record.config().metadata()));
    ASSERT_NE(found, nullptr);
    EXPECT_EQ(found->id, ready.id);
    ASSERT_TRUE(registry_->DeletePod(leaving.id).ok());
    EXPECT_NE(registry_->FindPodByName(PodName(ready.record.config().metadata())), nullptr);
  }
}

}  // namespace
}  // namespace runtimeservice
