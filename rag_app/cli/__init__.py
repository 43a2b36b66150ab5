"""The command line: parse, one library call, print. A file per group of commands.

Nothing heavy is imported before a command runs: LlamaIndex takes 1.3 s, sentence-transformers 6 s.
"""

import click

from rag_app import __version__
from rag_app.cli.archive import (
    backup_command,
    export_command,
    import_command,
    restore_command,
)
from rag_app.cli.batch import batch_command
from rag_app.cli.chat import chat_command
from rag_app.cli.collections import collections_group
from rag_app.cli.common import RagAppGroup, common_options
from rag_app.cli.config import config_group
from rag_app.cli.doctor import doctor_command
from rag_app.cli.documents import (
    documents_group,
    ingest_command,
    verify_command,
    watch_command,
)
from rag_app.cli.eval import eval_group
from rag_app.cli.index import index_group
from rag_app.cli.llm import llm_group
from rag_app.cli.mcp import mcp_group
from rag_app.cli.migrate import migrate_command, plan_command
from rag_app.cli.promote import promote_command
from rag_app.cli.query import query_command, retrieve_command
from rag_app.cli.serve import keys_group, serve_command
from rag_app.cli.tune import tune_command


@click.group(
    cls=RagAppGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="\b\nExamples:\n"
    "  rag-app ingest docs/\n"
    '  rag-app query "Which index types does Milvus Lite build?"\n'
    "  rag-app --profile gpu doctor",
)
@common_options
@click.version_option(__version__, prog_name="rag-app")
def main() -> None:
    """Ask questions about your own documents, on your own machine.

    Documents go into Milvus, answers come from them with their sources. What runs is said by
    config.toml; the options below may stand before or after a command.
    """


for command in (
    ingest_command,
    watch_command,
    query_command,
    retrieve_command,
    batch_command,
    chat_command,
    serve_command,
    keys_group,
    mcp_group,
    eval_group,
    tune_command,
    documents_group,
    collections_group,
    promote_command,
    verify_command,
    plan_command,
    migrate_command,
    export_command,
    import_command,
    backup_command,
    restore_command,
    index_group,
    config_group,
    llm_group,
    doctor_command,
):
    main.add_command(command)
