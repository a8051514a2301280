/**
 * The one table of errors: command line, REPL, HTTP, `cairn explain` and the docs all print from it.
 * The thrower adds the thing and the two values that disagree; `means` and `hint` are the same for every case.
 */
export type ErrorRow = {
  /** Exit status of a command that ends with it (architecture section 7). */
  readonly exit: number;
  /** HTTP status of an answer that carries it. */
  readonly http: number;
  /** S3 error code, where an S3 answer may carry it. */
  readonly s3: string | null;
  /** Whether the same call may succeed later unchanged. */
  readonly retryable: boolean;
  readonly means: string;
  readonly hint: string;
};

const row = (exit: number, http: number, retryable: boolean, means: string, hint: string): ErrorRow => ({ exit, http, s3: null, retryable, means, hint });

export const errorTable = {
  // 1: failed
  FAILED: row(
    1,
    500,
    false,
    "the command failed for a reason no narrower code names",
    "read the message; with CAIRN_TRACE=1 in the environment the stack follows it",
  ),
  STORE_SYNC_FAILED: row(
    1,
    500,
    false,
    "an fsync or a commit failed; from here on the disk's answers prove nothing",
    "check the disk, then restart the node: it re-reads every checksum before it serves",
  ),
  TEMP_DIR_UNUSABLE: row(
    1,
    500,
    false,
    "the store's native code could not be unpacked into the temporary folder",
    "set BUN_TMPDIR to a folder that is writable and not mounted noexec",
  ),
  // 2: usage
  USAGE: row(2, 400, false, "the command line does not say what to do", "see `cairn help` and `cairn help COMMAND`"),
  BAD_OPTION: row(2, 400, false, "an option's value is not of its form", "the message names the option, the value and the form"),
  BAD_NODE_NAME: row(2, 400, false, "a node's name is not usable", "names are [a-z0-9-]{1,32}; `objects`, `register` and `client` are taken"),
  BAD_CONFIG: row(
    2,
    400,
    false,
    "a setting in config.toml is unknown, of the wrong form, or contradicts another",
    "`cairn config show --origin` prints each setting and where it came from",
  ),
  NEEDS_ANSWER: row(2, 400, false, "the command would have to ask, and there is no terminal", "give the flag that the message names"),
  PARSE: row(2, 400, false, "a scenario or REPL line cannot be parsed", "the message names line and word; `help` lists the verbs"),
  MERGE_QUORUM_IMPOSSIBLE: row(2, 400, false, "backupquorum is larger than the number of secondaries", "lower backupquorum or add a secondary"),
  LOG_ENTRY_TOO_LARGE: row(2, 413, false, "an entry is longer than 65,535 bytes", "split it, or log its hash"),
  HTTP_METHOD: row(2, 405, false, "the HTTP method is not one of this path", "the header `allow` lists those that are"),
  HTTP_TOO_SLOW: row(6, 408, true, "the body of an HTTP request did not come in time", "send it faster, or in several requests"),
  HTTP_BODY_TOO_LARGE: row(2, 413, false, "the body of an HTTP request is longer than this path takes", "send it in several requests"),
  // 3: not found
  NOT_FOUND: row(3, 404, false, "there is no such thing", "the message names what was looked for and where"),
  UNKNOWN_NODE: row(3, 404, false, "no node of that name is in the cluster", "the message lists the nodes there are"),
  UNKNOWN_CODE: row(3, 404, false, "no error has that code", "`cairn explain` without a code lists them all"),
  LOG_RANGE: row(3, 404, false, "an index or size lies beyond what the log has", "ask within the size that the message names"),
  LOG_UNKNOWN: row(
    3,
    404,
    false,
    "the request names a log that this node does not keep",
    "check the origin in both config.toml files: the log's id is made from it",
  ),
  // 4: not allowed
  PEER_UNKNOWN: row(
    4,
    403,
    false,
    "the other side's key is not in this node's allow list, or it is not the key that was expected",
    "compare the public keys in both config.toml files",
  ),
  HANDSHAKE_FAILED: row(4, 403, false, "the other side did not prove who it is", "check cluster id and keys on both sides; an old key was perhaps replaced"),
  NOT_ALLOWED: row(4, 403, false, "the caller may not do this", "give the token from the node's config.toml, or call from the node itself"),
  IDENTITY_MODE: row(4, 403, false, "the identity file may be read by others", "chmod 600 the file, and replace the key if others may have read it"),
  // 5: conflict or failed condition
  NODE_RUNNING: row(5, 409, false, "the folder is in use by a running node or cluster", "stop it first, or use another folder"),
  NODE_EXISTS: row(5, 409, false, "the folder already holds a node", "use another folder, or run the node that is there"),
  MERGE_FENCED: row(
    5,
    409,
    false,
    "a newer epoch, or another primary of this epoch, has been promised",
    "this primary has been replaced: it may come back as a secondary",
  ),
  MERGE_STEP_BUSY: row(5, 409, false, "another instance of the same step is running", "wait for it, or pass --wait"),
  KV_CONDITION: row(5, 412, false, "the key does not have the version that the request wants", "read it, and ask again with the version it has"),
  LOG_ORDER_GAP: row(5, 409, false, "a chunk does not start where the copy ends", "ask for the copy's sizes and send from there"),
  LOG_EXISTS: row(5, 409, false, "the log was already initialised", "nothing is to be done; a second first head would be a fork"),
  REGISTER_CONFLICT: row(
    5,
    409,
    false,
    "the register holds another head than the swap expected",
    "read the register; somebody else signs, or this folder is an old copy",
  ),
  SYNC_TRIMMED: row(
    5,
    409,
    false,
    "the versions that are asked for are trimmed away",
    "read what there is now, and go on from the version that it was read at",
  ),
  PAXOS_REGRESSED: row(
    5,
    409,
    false,
    "a disk shows less than its node once acknowledged: it is an old copy",
    "move its folder away, and let it begin anew: `cairn node replace`",
  ),
  PAXOS_QUORUM: row(5, 409, false, "enough members are there to decide: nothing needs to be given up", "`cairn node replace` lets a lost one begin anew"),
  SYNC_BEHIND: row(5, 409, false, "the store to copy from is older than what the copying node has served", "copy from a node that has come further"),
  SYNC_REFUSED: row(
    5,
    409,
    false,
    "a store may not be replaced now: it may hold one of the copies that made a version chosen",
    "bring up the other members, wait until they have caught up, and ask again",
  ),
  // 6: unavailable
  UNAVAILABLE: row(6, 503, true, "a node could not be reached in time", "check that it runs: `cairn node status`"),
  TIMEOUT: row(6, 503, true, "no answer came within the timeout", "raise --timeout, or look at the node that the message names"),
  NOT_READY: row(6, 503, true, "the node is starting, or has stopped itself", "`GET /health` says what is missing"),
  STORE_FULL: row(6, 507, true, "the disk is full, or too nearly full to promise anything more", "free space; what was accepted is kept, reads go on"),
  LOG_BUSY: row(6, 503, true, "too many entries wait to be merged", "try again later; the merge goes on with what was promised"),
  LOG_STORAGE_QUORUM: row(
    6,
    503,
    true,
    "too few storage nodes have the entry on disk to promise anything",
    "the message names who is silent; adding again is harmless",
  ),
  LOG_NOT_VERIFIED: row(6, 503, true, "the frontend has not verified the log up to this size", "the next distribution brings what is missing"),
  MERGE_BEHIND_SECONDARY: row(
    6,
    503,
    false,
    "this primary's folder is older than what a secondary has verified or the register holds",
    "do not sign from it: bring back the newer folder, or repair from the secondary",
  ),
  MERGE_LATCHED: row(
    6,
    503,
    false,
    "the signer stopped itself and stays stopped until a person looked",
    "read merge/latch, run `cairn log verify`, then `cairn merge unlatch --yes`",
  ),
  MERGE_GATE: row(6, 503, true, "too few secondaries answered to know that this folder is not an old copy", "start the secondaries that the message names"),
  LOG_UNINITIALISED: row(6, 503, true, "the log has no first head yet", "`cairn log init` makes the head of size 0"),
  PAXOS_NO_QUORUM: row(
    6,
    503,
    true,
    "no leader with a majority behind it could be reached in time: the request was surely not done",
    "the message names who is silent; asking again is harmless",
  ),
  PAXOS_OUTCOME_UNKNOWN: row(
    6,
    503,
    true,
    "a write was proposed and nobody could be asked in time whether it was chosen",
    "read before writing again, or write with the version in `If-Match`",
  ),
  // 7: corrupt or does not verify
  STORE_CORRUPT: row(
    7,
    500,
    false,
    "what is stored does not match its checksum",
    "`cairn store check` says how much is damaged. In database replicated, `cairn sync offline FROM NODE` copies another node's; else move the folder's store and accepts away, then `cairn node replace`",
  ),
  STORE_FORMAT: row(7, 500, false, "a newer build wrote rows that this one cannot read", "run the newer build on this node; nothing was changed here"),
  STORE_TRUNCATED: row(
    7,
    500,
    false,
    "a store file is shorter than its own header says",
    "it is not opened, which would crash the process: move the folder's store and accepts away, then `cairn node replace`",
  ),
  FRAME_CORRUPT: row(7, 400, false, "a frame, message or record does not decode", "the sender is of another version, or the bytes were damaged"),
  IDENTITY_CORRUPT: row(
    7,
    500,
    false,
    "the identity file does not hold a seed and the public key it makes",
    "restore the file from its copy; a new identity needs a new entry in every allow list",
  ),
  LOG_ENTRY_MISMATCH: row(7, 422, false, "an entry's bytes do not hash to the leaf hash in the order", "the sender's copy is damaged, or it lies"),
  LOG_ORDER_FORK: row(7, 409, false, "two copies of the log disagree about an entry below a verified size", "keep both folders: they are the evidence"),
  LOG_ROOT_MISMATCH: row(7, 409, false, "two computations of the root of the same prefix differ", "the message names both roots; verify each copy"),
  LOG_HEAD_FORK: row(7, 409, false, "two heads of the same size have different roots", "keep both notes: they are the evidence"),
  LOG_HEAD_ROLLBACK: row(7, 409, false, "a head is smaller than one already seen", "the sender works from an old folder"),
  LOG_PUBLISH_CONFLICT: row(7, 409, false, "a published object is there with other bytes", "another log writes to the same target"),
  LOG_SIGNATURE: row(7, 422, false, "a signature is missing or does not verify", "check the verifier key; then treat the note as forged"),
  LOG_PROOF: row(7, 422, false, "a proof does not lead to the root", "the message names both roots"),
  LOG_ENCODING: row(7, 422, false, "a log file, tile, bundle, note or proof is malformed", "the message names the place and what was expected there"),
  MERGE_FILE_FOREIGN: row(
    7,
    409,
    false,
    "a hand-over file speaks of entries that this node's order does not have",
    "it belongs to another folder or log; move it away and let the step rebuild it",
  ),
  PAXOS_FORK: row(
    7,
    409,
    false,
    "two nodes hold different batches of one version",
    "keep both folders: one of them was an old copy of a disk; `cairn store diff` shows where they part",
  ),
  // 8: the check found differences or problems
  DIFFERENCES: row(8, 409, false, "the check found differences", "they are listed above"),
  VIOLATION: row(8, 500, false, "the simulator saw an invariant broken", "the line names the seed and the command that replays it"),
} as const satisfies Record<string, ErrorRow>;

export type ErrorCode = keyof typeof errorTable;

export const isErrorCode = (text: string): text is ErrorCode => Object.hasOwn(errorTable, text);
/** What somebody else calls a code: one that this build does not know is FAILED. */
export const errorCodeOf = (text: string): ErrorCode => (isErrorCode(text) ? text : "FAILED");

/** A fact about the world (a peer, a disk, a user) that stops an operation. `detail` names the thing and the two values. */
export class EngineError extends Error {
  override readonly name = "EngineError";
  readonly code: ErrorCode;
  constructor(code: ErrorCode, detail: string, options?: { cause?: unknown }) {
    super(detail, options);
    this.code = code;
  }
  get row(): ErrorRow {
    return errorTable[this.code];
  }
}
