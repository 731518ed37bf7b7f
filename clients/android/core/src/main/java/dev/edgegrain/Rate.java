package dev.edgegrain;

/** Coder tables of an encoder, and the LR contract that the two make. */
public final class Rate {
    /** 64 hex digits. */
    public final String contractId;
    public final CoderTables tables;

    Rate(String contractId, CoderTables tables) {
        this.contractId = contractId;
        this.tables = tables;
    }
}
