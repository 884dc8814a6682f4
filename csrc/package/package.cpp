#include "package/package.h"

#include <utility>

#include "graph/check.h"
#include "graph/read.h"
#include "package/error.h"
#include "package/json.h"
#include "package/safetensors.h"
#include "package/sha256.h"

namespace mobilequant {
namespace {

constexpr std::size_t kMaxJsonBytes = 64 << 20;

Json read_json(const MappedFile& file, const std::string& where) {
    require(file.bytes().size() <= kMaxJsonBytes, where + " has more than 64 MB");
    return Json::parse({reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()}, where);
}

void check_version(const Json& manifest) {
    const Json *format = manifest.find("format"), *version = manifest.find("version");
    require(format && format->string("format") == "mobilequant-package", "package.json is of no MobileQuant package");
    require(version && version->integer("version") == 1, "the package is of a version that this program does not read");
}

// A file that the manifest lists, with the size and hash that it says.
MappedFile open_listed(const std::filesystem::path& folder, const Json& files, const std::string& name) {
    const Json* entry = files.find(name);
    require(entry, "package.json does not list " + name);
    const Json *bytes = entry->find("bytes"), *sha256 = entry->find("sha256");
    require(bytes && sha256, "package.json says no size or hash of " + name);
    MappedFile file(folder / name);
    require(bytes->integer(name) == static_cast<std::int64_t>(file.bytes().size()), name + " has another size than package.json says");
    require(sha256->string(name) == hexadecimal(mobilequant::sha256(file.bytes())), name + " was changed after it was written");
    return file;
}

}  // namespace

Package Package::open(const std::filesystem::path& folder) {
    const Json manifest = read_json(MappedFile(folder / "package.json"), "package.json");
    check_version(manifest);
    const Json* files = manifest.find("files");
    require(files, "package.json lists no files");
    const MappedFile graph_file = open_listed(folder, *files, "graph.json");
    MappedFile weights = open_listed(folder, *files, "weights.safetensors");
    const Json description = read_json(graph_file, "graph.json");
    const Json* entries = description.find("constants");
    require(entries, "graph.json lists no constants");
    std::vector<Constant> constants = read_constants(*entries, read_safetensors(weights.bytes(), "weights.safetensors"));
    Graph graph = read_graph(description, constants);
    check_graph(graph);
    std::optional<std::int32_t> leading;
    if (const Json* token = manifest.find("leading_token"); token && !token->is_null()) {
        const std::int64_t id = token->integer("leading_token");
        require(0 <= id && id < graph.vocab_size, "leading_token is outside the vocabulary");
        leading = static_cast<std::int32_t>(id);
    }
    return Package(std::move(weights), std::move(constants), std::move(graph), leading);
}

}  // namespace mobilequant
