#pragma once

#include <memory>
#include <vector>

#include <brood/pipeline/stage.hpp>
#include <brood/pipeline_options.hpp>

namespace brood::detail {

/// Stages but for their functions. Throw ArgumentError for options that can never be.
std::shared_ptr<StageSpec> process_spec(ProcessStage options);
std::shared_ptr<StageSpec> thread_spec(const ThreadStage& options, bool can_repeat);
std::shared_ptr<StageSpec> here_spec(StageSpec::Kind kind, bool takes_outcomes);

/// Lets the items of `source` through `stages`: see Pipeline::run.
PipelineStats run_pipeline(const SourceSpec& source,
                           const std::vector<std::shared_ptr<const StageSpec>>& stages,
                           const PipelineOptions& options);

}  // namespace brood::detail
