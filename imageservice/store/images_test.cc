#include "imageservice/store/images.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "base/files.h"
#include "imageservice/testing/temp_directory.h"

namespace imageservice {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

std::string Hex(char c) { return std::string(64, c); }

class ImageStoreTest : public ::testing::Test {
 protected:
  ImageStoreTest() { Start("boot-1"); }
  ~ImageStoreTest() override { Stop(); }

  void Stop() {
    lane_.reset();
    images_.reset();
    layers_.reset();
    trash_.reset();
  }
  void Start(const std::string& boot_id) {
    Stop();
    problems_ = std::make_unique<Problems>();
    lane_ = std::make_unique<base::Lane>("gc", 2, 100);
    trash_ = Trash::Open(directory_ / "trash", lane_.get()).value();
    layers_ = LayerStore::Open(directory_.path(), boot_id, trash_.get(), problems_.get()).value();
    auto images = ImageStore::Open(directory_.path(), boot_id, layers_.get(), problems_.get());
    ASSERT_TRUE(images.ok()) << images.status();
    images_ = *std::move(images);
  }

  void AddLayer(char c) {
    const LayerStore::Claim claim = layers_->ClaimFor("pull/p", Hex(c));
    if (claim == LayerStore::Claim::kMine) {
      const std::string made = directory_ / "made";
      ASSERT_TRUE(base::MakeDirectories(made).ok());
      LayerInfo info;
      info.chain_id = info.diff_id = Hex(c);
      info.bytes = 10;
      ASSERT_TRUE(layers_->Commit("pull/p", info, made).ok());
    }
  }
  // An image of one layer.
  absl::StatusOr<ImagePtr> Add(char id, char layer, const std::string& tag) {
    AddLayer(layer);
    crisp::state::ImageRecord record;
    record.set_id(Hex(id));
    if (!tag.empty()) {
      record.add_tags(tag);
    }
    record.add_digests("q.io/a@sha256:" + Hex(id));
    record.add_chain_ids(Hex(layer));
    record.set_bytes(10);
    record.set_config("{}");
    record.mutable_process()->set_user("7");
    absl::StatusOr<ImagePtr> image = images_->Commit(std::move(record));
    layers_->Release("pull/p");
    return image;
  }
  void MakeDurable(char id, char layer) {
    ASSERT_TRUE(layers_->MarkDurable({Hex(layer)}).ok());
    const absl::Status status = images_->MarkDurable(Hex(id));
    ASSERT_TRUE(status.ok()) << status;
  }
  std::vector<std::string> TagsOf(char id) const {
    const ImagePtr image = images_->FindById(Hex(id));
    return image == nullptr ? std::vector<std::string>{"absent"} : image->tags;
  }

  testing::TempDirectory directory_;
  std::unique_ptr<base::Lane> lane_;
  std::unique_ptr<Trash> trash_;
  std::unique_ptr<Problems> problems_;
  std::unique_ptr<LayerStore> layers_;
  std::unique_ptr<ImageStore> images_;
};

TEST_F(ImageStoreTest, AnImageIsThereAfterARestart) {
  ASSERT_TRUE(Add('1', 'a', "q.io/a:t").ok());
  Start("boot-1");
  const ImagePtr image = images_->FindByReference(Reference::Parse("q.io/a:t").value());
  ASSERT_NE(image, nullptr);
  EXPECT_EQ(image->id, Hex('1'));
  EXPECT_EQ(image->config.user, "7");
  EXPECT_THAT(image->chain_ids, ElementsAre(Hex('a')));
  EXPECT_EQ(images_->Read(Hex('1'))->config(), "{}");
  EXPECT_THAT(problems_->List(), IsEmpty());
  layers_->ReleaseUnused();
  EXPECT_TRUE(layers_->IsPresent(Hex('a'))) << "the loaded image pins it";
}

TEST_F(ImageStoreTest, AnImageWithoutItsLayersIsRefused) {
  crisp::state::ImageRecord record;
  record.set_id(Hex('1'));
  record.add_chain_ids(Hex('a'));
  EXPECT_FALSE(images_->Commit(record).ok());
  EXPECT_THAT(images_->List(), IsEmpty());
}

TEST_F(ImageStoreTest, ARecordCutAnywhereIsSetAsideAndTheOthersStay) {
  ASSERT_TRUE(Add('1', 'a', "q.io/a:t").ok());
  ASSERT_TRUE(Add('2', 'b', "q.io/b:t").ok());
  const std::string path = directory_ / ("records/images/" + Hex('1'));
  const std::string whole = base::ReadFile(path).value();
  for (size_t size = 0; size < whole.size(); ++size) {
    Stop();
    ASSERT_TRUE(
        base::ReplaceFile(path, whole.substr(0, size), 0600, base::Durability::kVolatile).ok());
    Start("boot-1");
    EXPECT_THAT(images_->List(), SizeIs(1)) << size;
    EXPECT_THAT(problems_->List(), SizeIs(1)) << size;
  }
}

TEST_F(ImageStoreTest, ARecordUnderAWrongNameIsSetAside) {
  ASSERT_TRUE(Add('1', 'a', "q.io/a:t").ok());
  const std::string records = directory_ / "records/images/";
  ASSERT_EQ(rename((records + Hex('1')).c_str(), (records + Hex('2')).c_str()), 0);
  Start("boot-1");
  EXPECT_THAT(images_->List(), IsEmpty());
  EXPECT_THAT(problems_->List(), SizeIs(1));
  EXPECT_TRUE(base::Exists(records + "corrupt/" + Hex('2')));
}

TEST_F(ImageStoreTest, AnImageWhoseLayerVanishedDoesNotHinderTheOthers) {
  ASSERT_TRUE(Add('1', 'a', "q.io/a:t").ok());
  ASSERT_TRUE(Add('2', 'b', "q.io/b:t").ok());
  ASSERT_TRUE(base::RemoveTree(layers_->PathOf(Hex('a'))).ok());
  Start("boot-1");
  EXPECT_THAT(TagsOf('1'), ElementsAre("absent"));
  EXPECT_THAT(TagsOf('2'), ElementsAre("q.io/b:t"));
  EXPECT_THAT(problems_->List(), SizeIs(2)) << "the layer and the image";
}

TEST_F(ImageStoreTest, ImagesWithADamagedLayerAreSetAsideUntilTheyArePulledAgain) {
  ASSERT_TRUE(Add('1', 'a', "q.io/a:t").ok());
  ASSERT_TRUE(Add('2', 'a', "q.io/a:u").ok());
  ASSERT_TRUE(Add('3', 'b', "q.io/b:t").ok());
  EXPECT_TRUE(images_->CheckLayers(Hex('1')).ok());
  EXPECT_TRUE(images_->CheckLayers(Hex('9')).ok()) << "there is no such image";
  ASSERT_TRUE(base::RemoveTree(layers_->PathOf(Hex('a'))).ok());
  const absl::Status status = images_->CheckLayers(Hex('1'));
  EXPECT_TRUE(absl::IsNotFound(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("q.io/a:t is damaged: layer " + Hex('a')));
  EXPECT_THAT(TagsOf('1'), ElementsAre("absent"));
  EXPECT_THAT(TagsOf('2'), ElementsAre("absent")) << "it has the same layer";
  EXPECT_THAT(TagsOf('3'), ElementsAre("q.io/b:t"));
  EXPECT_THAT(problems_->List(), SizeIs(3)) << "the layer and two images";
  ASSERT_TRUE(Add('1', 'a', "q.io/a:t").ok());
  EXPECT_THAT(TagsOf('1'), ElementsAre("q.io/a:t"));
  EXPECT_THAT(problems_->List(), ElementsAre(HasSubstr("image " + Hex('2'))));
  Start("boot-1");
  EXPECT_THAT(images_->List(), SizeIs(2));
  EXPECT_THAT(problems_->List(), IsEmpty());
}

// A pull that was to repair the layer and failed has left it absent.
TEST_F(ImageStoreTest, AnImageWhoseLayerIsAbsentIsSetAsideToo) {
  ASSERT_TRUE(Add('1', 'a', "q.io/a:t").ok());
  ASSERT_TRUE(base::RemoveTree(layers_->PathOf(Hex('a'))).ok());
  ASSERT_EQ(layers_->ClaimFor("pull/2", Hex('a')), LayerStore::Claim::kMine);
  layers_->Release("pull/2");
  EXPECT_TRUE(absl::IsNotFound(images_->CheckLayers(Hex('1'))));
  EXPECT_THAT(images_->List(), IsEmpty());
}

TEST_F(ImageStoreTest, NamesAreListedOnceInTheOrderTheyCame) {
  AddLayer('a');
  crisp::state::ImageRecord record;
  record.set_id(Hex('1'));
  record.add_chain_ids(Hex('a'));
  for (const char* tag : {"q.io/z:1", "q.io/a:1", "q.io/z:1"}) {
    record.add_tags(tag);
  }
  for (const char digest : {'5', '4', '5'}) {
    record.add_digests("q.io/z@sha256:" + Hex(digest));
  }
  ASSERT_TRUE(images_->Commit(record).ok());
  EXPECT_THAT(TagsOf('1'), ElementsAre("q.io/z:1", "q.io/a:1"));
  EXPECT_THAT(images_->FindById(Hex('1'))->digests,
              ElementsAre("q.io/z@sha256:" + Hex('5'), "q.io/z@sha256:" + Hex('4')));
}

TEST_F(ImageStoreTest, AnotherBootDropsWhatWasNotDurable) {
  ASSERT_TRUE(Add('1', 'a', "q.io/a:t").ok());
  MakeDurable('1', 'a');
  ASSERT_TRUE(Add('2', 'b', "q.io/b:t").ok());
  EXPECT_THAT(images_->NotDurable(), ElementsAre(Hex('2')));
  Start("boot-2");
  EXPECT_THAT(TagsOf('1'), ElementsAre("q.io/a:t"));
  EXPECT_THAT(TagsOf('2'), ElementsAre("absent"));
  EXPECT_THAT(problems_->List(), IsEmpty());
}

TEST_F(ImageStoreTest, AnImageIsNotDurableBeforeItsLayers) {
  ASSERT_TRUE(Add('1', 'a', "q.io/a:t").ok());
  EXPECT_FALSE(images_->MarkDurable(Hex('1')).ok());
  Start("boot-2");
  EXPECT_THAT(images_->List(), IsEmpty());
}

TEST_F(ImageStoreTest, AMovedTagLeavesTheOldImageUntagged) {
  ASSERT_TRUE(Add('1', 'a', "q.io/a:t").ok());
  ASSERT_TRUE(Add('2', 'b', "q.io/a:t").ok());
  EXPECT_THAT(TagsOf('1'), IsEmpty());
  EXPECT_THAT(TagsOf('2'), ElementsAre("q.io/a:t"));
  Start("boot-1");
  EXPECT_THAT(TagsOf('1'), IsEmpty());
  EXPECT_THAT(TagsOf('2'), ElementsAre("q.io/a:t"));
}

TEST_F(ImageStoreTest, PowerLossAfterATagMovedGivesItBack) {
  ASSERT_TRUE(Add('1', 'a', "q.io/a:t").ok());
  MakeDurable('1', 'a');
  ASSERT_TRUE(Add('2', 'b', "q.io/a:t").ok());
  Start("boot-2");
  EXPECT_THAT(TagsOf('1'), ElementsAre("q.io/a:t"));
}

TEST_F(ImageStoreTest, ADurableMoveOfATagIsFinal) {
  ASSERT_TRUE(Add('1', 'a', "q.io/a:t").ok());
  MakeDurable('1', 'a');
  ASSERT_TRUE(Add('2', 'b', "q.io/a:t").ok());
  MakeDurable('2', 'b');
  ASSERT_TRUE(images_->Remove(Hex('2')).ok());
  Start("boot-2");
  EXPECT_THAT(TagsOf('1'), IsEmpty());
}

TEST_F(ImageStoreTest, ARemovedImagesTagDoesNotComeBackWithAnOlderRecord) {
  ASSERT_TRUE(Add('1', 'a', "q.io/a:t").ok());
  ASSERT_TRUE(Add('2', 'b', "q.io/a:t").ok());
  ASSERT_TRUE(images_->Remove(Hex('2')).ok());
  Start("boot-1");
  EXPECT_THAT(TagsOf('1'), IsEmpty());
}

TEST_F(ImageStoreTest, ARepeatedPullAddsNamesAndStaysDurable) {
  ASSERT_TRUE(Add('1', 'a', "q.io/a:t").ok());
  MakeDurable('1', 'a');
  ASSERT_TRUE(Add('1', 'a', "q.io/a:u").ok());
  ASSERT_TRUE(Add('1', 'a', "q.io/a:t").ok());
  Start("boot-2");
  EXPECT_THAT(TagsOf('1'), ElementsAre("q.io/a:t", "q.io/a:u"));
  EXPECT_THAT(images_->FindById(Hex('1'))->digests, SizeIs(1));
}

TEST_F(ImageStoreTest, PrefixesOfIdsMustBeUnique) {
  ASSERT_TRUE(Add('1', 'a', "q.io/a:t").ok());
  ASSERT_TRUE(Add('2', 'b', "q.io/b:t").ok());
  EXPECT_EQ((*images_->FindByPrefix("111"))->id, Hex('1'));
  EXPECT_EQ(*images_->FindByPrefix("333"), nullptr);
  EXPECT_TRUE(absl::IsInvalidArgument(images_->FindByPrefix("").status()));
}

TEST_F(ImageStoreTest, RemovingTwiceIsOk) {
  ASSERT_TRUE(Add('1', 'a', "q.io/a:t").ok());
  EXPECT_THAT(images_->Remove(Hex('1')).value(), SizeIs(1));
  EXPECT_THAT(images_->Remove(Hex('1')).value(), IsEmpty());
  EXPECT_TRUE(images_->MarkDurable(Hex('1')).ok());
  Start("boot-1");
  EXPECT_THAT(images_->List(), IsEmpty());
}

}  // namespace
}  // namespace imageservice
