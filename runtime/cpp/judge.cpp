// Judges one raw RGB frame with a model made by `padim-edge export`. README.md beside it says how to build it.
#include <onnxruntime_cxx_api.h>

#include "comparable.hpp"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

using std::string, std::to_string, std::filesystem::path;

static void require(bool fine, const string& sentence) {
  if (!fine) throw std::runtime_error(sentence);
}

static std::vector<char> read(const path& frame) {
  std::ifstream file(frame, std::ios::binary);
  require(file && !is_directory(frame), frame.string() + " cannot be read; give the path of a raw RGB frame");
  return {std::istreambuf_iterator<char>(file), {}};
}

static void write(const path& map, const float* values, std::size_t count) {
  const path temporary = map.string() + ".tmp";  // so that no half-written map ever has the final name
  std::ofstream file(temporary, std::ios::binary);
  file.write(reinterpret_cast<const char*>(values), static_cast<std::streamsize>(count * sizeof *values));
  file.close();
  std::error_code failed, ignored;
  if (file) rename(temporary, map, failed);
  if (!file || failed) remove(temporary, ignored);
  require(file && !failed, map.string() + " could not be written; choose a folder that exists and has room");
}

// The number behind a key of the metadata. No JSON parser is needed: quotes inside of strings are escaped, so that a
// key with its quotes and colon stands in one place only.
static double number(const string& metadata, const string& key, const path& model) {
  const std::size_t at = metadata.find('"' + key + "\":");
  require(at != string::npos, model.string() + " names no " + key + "; export it again with padim-edge");
  return std::strtod(metadata.c_str() + at + key.size() + 3, nullptr);
}

static Ort::Session load(const Ort::Env& env, const path& model) try {
  Ort::SessionOptions options;
  // For int8 models that TensorRT was meant to run: else, sums are cut off on x86 processors without VNNI.
  options.AddConfigEntry("session.qdqisint8allowed", "1");
  return Ort::Session(env, model.c_str(), options);
} catch (const Ort::Exception& error) {
  throw std::runtime_error("onnxruntime cannot load " + model.string() + " (" + error.what() +
                           "); copy it again, and the .data file that it may have, into the same folder");
}

static void judge(const path& model, const path& frame, const char* map) {
  require(OrtGetApiBase()->GetApi(ORT_API_VERSION), string("the library is onnxruntime ") +
          OrtGetApiBase()->GetVersionString() + ", older than its headers, 1." + to_string(ORT_API_VERSION) +
          "; build with headers that are not newer");
  require(is_regular_file(model), model.string() + " is no file; expected a model made by padim-edge export");
  const Ort::Env env(ORT_LOGGING_LEVEL_FATAL);  // everything else comes as an exception
  Ort::Session session = load(env, model);
  Ort::AllocatorWithDefaultOptions memory;
  string found;
  for (std::size_t i = 0; i < session.GetInputCount(); ++i)
    found += string(session.GetInputNameAllocated(i, memory).get()) + ", ";
  for (std::size_t i = 0; i < session.GetOutputCount(); ++i)
    found += string(session.GetOutputNameAllocated(i, memory).get()) + ", ";
  const auto metadata = session.GetModelMetadata().LookupCustomMetadataMapAllocated("padim_edge", memory);
  require(metadata && found == "image, score, anomaly_map, patch_distance, ", model.string() + " has the tensors " +
          found + (metadata ? "" : "no metadata of padim-edge, ") + "expected image, score, anomaly_map, " +
          "patch_distance and that metadata; give a model made by padim-edge export");
  require(number(metadata.get(), "format_version", model) == 2, model.string() + " is not of format version 2, which " +
          "this program reads; export it again with the padim-edge of this program");
  const double threshold = number(metadata.get(), "threshold", model);
  require(threshold >= 0 && std::isfinite(threshold),
          model.string() + " has a threshold that is no distance; export it again");
  auto shape = session.GetInputTypeInfo(0).GetTensorTypeAndShapeInfo().GetShape();  // N, H, W, 3
  shape.at(0) = 1;
  const std::size_t pixels = static_cast<std::size_t>(shape.at(1) * shape.at(2));
  std::vector<char> bytes = read(frame);
  require(bytes.size() == 3 * pixels, frame.string() + " has " + to_string(bytes.size()) + " bytes, expected " +
          to_string(3 * pixels) + ", " + to_string(shape[1]) + " rows of " + to_string(shape[2]) + " RGB pixels");
  const auto image = Ort::Value::CreateTensor(
      Ort::MemoryInfo::CreateCpu(OrtDeviceAllocator, OrtMemTypeCPU), reinterpret_cast<std::uint8_t*>(bytes.data()),
      bytes.size(), shape.data(), shape.size());
  const char *input = "image", *outputs[] = {"score", "anomaly_map", "patch_distance"};
  const auto results = session.Run(Ort::RunOptions(), &input, &image, 1, outputs, 3);
  const float score = *results[0].GetTensorData<float>();
  require(std::isfinite(score), "the score is no finite number; run padim-edge verify");
  if (map) write(map, results[1].GetTensorData<float>(), results[1].GetTensorTypeAndShapeInfo().GetElementCount());
  const auto grid = results[2].GetTensorTypeAndShapeInfo().GetShape();  // N, h, w
  const string reasons = comparable::reasons(
      metadata.get(), reinterpret_cast<const std::uint8_t*>(bytes.data()), shape[1], shape[2],
      results[2].GetTensorData<float>(), {static_cast<int>(grid.at(1)), static_cast<int>(grid.at(2))});
  const char* verdict = !reasons.empty() ? "NOT COMPARABLE" : score > threshold ? "ANOMALOUS     " : "good          ";
  std::printf("%s  score %.9g  threshold %.9g%s%s\n", verdict, score, threshold, reasons.empty() ? "" : " ",
              reasons.c_str());
  require(std::fflush(stdout) == 0, "the decision could not be printed; check where the output goes");
}

int main(int count, char** arguments) try {
  if (count < 3 || count > 4) return std::fputs("usage: padim-edge-judge MODEL.onnx FRAME.rgb [MAP.f32]\n", stderr), 2;
  setenv("ORT_DISABLE_TELEMETRY", "1", 0);  // before the environment is made; what the user has set stays
  judge(arguments[1], arguments[2], count == 4 ? arguments[3] : nullptr);
} catch (const std::exception& error) {
  string sentence = error.what();
  std::replace(sentence.begin(), sentence.end(), '\n', ' ');
  return std::fprintf(stderr, "padim-edge-judge: %s\n", sentence.c_str()), 1;
}
