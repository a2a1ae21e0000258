"""Runs programs on virtual CPU devices and prints what came out; `test_sharding.py` starts it.

    sharded_run.py DIRECTORY DEVICES PARTICLES TENSOR [PROCESS ADDRESS]

With a process number, one of two under `jax.distributed`, with so many devices each.
"""

import json
import os
import sys

directory, devices, particles, tensor, *rest = sys.argv[1:]
# Before JAX is imported. Callbacks on virtual devices need spare threads.
os.environ["NPROC"] = "4"
os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={devices} --xla_backend_optimization_level=0"

import jax  # noqa: E402
import numpyro  # noqa: E402

if rest:
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(rest[1], num_processes=2, process_id=int(rest[0]))

import sentax as sx  # noqa: E402
from sentax.models.sharding import make_mesh  # noqa: E402

not_e = sx.predicate(lambda text: b"e" not in text)


def on_the_devices(context, where):
    """A latent choice, an exact mask, resampling, and fixed text behind texts of several lengths."""
    which = numpyro.sample("which", numpyro.distributions.Bernoulli(0.5))
    text = sx.generate("text", context, max_tokens=4, where=where)
    numpyro.factor("long", which * text.length * 1.0)
    after = text.context.append_text(" so")
    numpyro.deterministic("then", jax.nn.log_softmax(after.logits)[:400])


def on_the_host(context):
    """A Python predicate: callbacks from a program on many devices."""
    sx.generate("text", context, max_tokens=3, where=not_e)


def run(kernel, ess_threshold, key, *args):
    smc = sx.SMC(kernel, num_particles=8, ess_threshold=ess_threshold)
    smc.run(jax.random.key(key), *args)
    samples, log_weights = smc.get_weighted_samples()
    program = smc._executable.latest
    return {
        "samples": {site: values.tolist() for site, values in samples.items()},
        "log_weights": log_weights.tolist(),
        "log_evidence": smc.log_evidence,
        "resampled": int(smc.population.resampled[0].sum()),
        "bytes": program.memory_analysis().temp_size_in_bytes,
    }


def programs(lm):
    """What each program gives with this model."""
    prompt = lm.prompt("She said hello to the old sail")
    results = {"devices": run(sx.LocallyConstrained(on_the_devices), 1.0, 0, prompt, sx.regex("[a-z ]*"))}
    if not rest:  # with callbacks too: the first process answers them, so two prove no more than one
        results["host"] = run(sx.AWRS(on_the_host), 0.5, 1, lm.prompt("She said"))
        contexts = lm.prompts(["She said", [0, 70, 71]])
        after = contexts.vmap(lambda context: context.reserve(1).extend(75).logits)()
        results["contexts"] = jax.nn.softmax(after).tolist()
    return results


spread = sx.load(directory, mesh=make_mesh(particles=int(particles), tensor=int(tensor)))
report = {"spread": programs(spread)}
if not rest:
    report["alone"] = programs(sx.load(directory))
    weights = spread.params["layers"][0]["mlp"]["up_proj"]["weight"]
    report["shard"] = [weights.addressable_shards[0].data.shape, weights.shape]
    try:
        sx.SMC(sx.Prior(on_the_host), num_particles=10).run(jax.random.key(0), spread.prompt("She"))
    except ValueError as error:
        report["uneven"] = str(error)
print(json.dumps(report))
